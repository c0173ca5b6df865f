"""Each reason that SLURM gives for a job that waits has words of its own, and the right ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from completed import finish

from antioversmooth.orchestration.monitor.pending import describe_pending_reason, is_held
from antioversmooth.orchestration.slurm.client import Job
from antioversmooth.runs import Run, RunRecord

MakeRun = Callable[..., Run]
START = "2026-12-01T08:00:00"
# of SLURM 22.05's own list, but limits
REASONS = """
AccountNotAllowed BadConstraints BeginTime BurstBufferOperation BurstBufferResources
BurstBufferStageIn Cleaning DeadLine Dependency DependencyNeverSatisfied FedJobLock FrontEndDown
InactiveLimit InvalidAccount InvalidQOS JobHeldAdmin JobHeldUser JobHoldMaxRequeue JobLaunchFailure
Licenses MaxMemPerLimit NodeDown None PartitionConfig PartitionDown PartitionInactive
PartitionNodeLimit PartitionTimeLimit PowerNotAvail PowerReserved Priority Prolog QOSNotAllowed
QOSUsageThreshold ReqNodeNotAvail Reservation ReservationDeleted Resources SchedDefer SystemFailure
"""


def described(
    record: RunRecord, reason: str, *, start: str = "N/A", state: str = "PENDING", **facts: bool
) -> str:
    job = Job("7", "name", state, reason, "", start)
    return describe_pending_reason(record, job, **{"has_run": False, **facts})


@pytest.fixture
def record(make_run: MakeRun) -> RunRecord:
    return RunRecord.read(make_run())


@pytest.mark.parametrize("reason", REASONS.split())
def test_every_reason_of_slurm_has_words(record: RunRecord, reason: str) -> None:
    text = described(record, reason)
    assert text.endswith(f" [{reason}]")
    assert not text.startswith(("it waits [", "a limit of your account"))


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("AssocGrpCpuLimit", "a limit of your account or quality of service is reached"),
        ("AssocGrpGRES", "a limit of your account or quality of service is reached"),
        ("QOSGrpNodeLimit", "a limit of your account or quality of service is reached"),
        ("QOSMaxJobsPerUserLimit", "a limit of your account or quality of service is reached"),
        ("MaxGRESPerAccount", "a limit of your account or quality of service is reached"),
        ("AssocGrpGRESRunMinutes", "a limit of your account or quality of service is reached"),
        ("AssocMaxNodePerJobLimit", "allows for one job, and never starts like this"),
        ("QOSMaxWallDurationPerJobLimit", "allows for one job, and never starts like this"),
        ("QOSMaxGRESPerNode", "allows for one job, and never starts like this"),
        ("QOSMaxCpuMinutesPerJobLimit", "allows for one job, and never starts like this"),
        ("QOSMinGRES", "it requests less than cluster.qos demands of a job"),
        ("QOSMinCpuNotSatisfied", "it requests less than cluster.qos demands of a job"),
        ("AssocGrpBillingMinutes", "the computing time of your account or quality of service is"),
        ("QOSGrpCPUMinutesLimit", "the computing time of your account or quality of service is"),
        ("AssocGrpWallLimit", "the computing time of your account or quality of service is"),
        ("ReqNodeNotAvail, UnavailableNodes:node[1-2]", "are down, drained or reserved"),
        ("(ReqNodeNotAvail,_May_be_reserved_for_other_job)", "are down, drained or reserved"),
        (
            "Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved_for_jobs_in_higher_priority",
            "are down, drained or reserved",
        ),
    ],
)
def test_reasons_of_one_kind_are_told_from_those_of_others(
    record: RunRecord, reason: str, words: str
) -> None:
    assert words in described(record, reason)


def test_a_begin_time_is_no_delay_of_a_requeue(make_run: MakeRun) -> None:
    asked = RunRecord.read(make_run("deit_s12", "+cluster.sbatch.begin=2026-12-01T08"))
    assert described(asked, "BeginTime", start=START) == (
        f"it waits for its begin time (cluster.sbatch.begin) [BeginTime], not before {START}"
    )
    assert described(asked, "BeginTime", has_run=True) == (
        "SLURM delays a requeued job for a moment [BeginTime]"
    )


def test_a_dependency_is_a_run_that_is_needed_or_the_last_job_of_this_one(
    make_run: MakeRun,
) -> None:
    run = make_run("cait_s24_featscale")
    record = RunRecord.read(run)
    assert described(record, "Dependency") == "a run that it needs is not finished [Dependency]"
    assert run.upstream is not None
    run.upstream.prepare()
    finish(run.upstream)
    assert described(record, "Dependency") == "its last job is still ending [Dependency]"


@pytest.mark.parametrize(
    ("state", "reason", "held"),
    [
        ("PENDING", "JobHeldUser", True),
        ("PENDING", "JobHoldMaxRequeue", True),
        ("PENDING", "launch failed requeued held", True),
        ("PENDING", "job_requeued_in_held_state", True),
        ("REQUEUE_HOLD", "None", True),
        ("RESV_DEL_HOLD", "ReservationDeleted", True),
        ("PENDING", "BeginTime", False),
        ("PENDING", "Reservation", False),
    ],
)
def test_a_held_job_waits_for_a_person(state: str, reason: str, held: bool) -> None:
    assert is_held(Job("7", "name", state, reason, "", "N/A")) is held
