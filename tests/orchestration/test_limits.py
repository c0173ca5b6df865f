"""Limits on jobs in the queue are no errors: what has no room waits, and is submitted later."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from completed import finish
from fake_slurm import FakeSlurm
from views import RecordingView

from antioversmooth.errors import LaunchError
from antioversmooth.orchestration import control
from antioversmooth.orchestration.backend import Outcome
from antioversmooth.orchestration.monitor.explain import explain
from antioversmooth.orchestration.monitor.state import query_statuses
from antioversmooth.orchestration.slurm.backend import SlurmBackend
from antioversmooth.orchestration.slurm.limits import submit_limit
from antioversmooth.orchestration.slurm.reconcile import Action, reconcile
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import Run, RunRecord, RunState, RunStatus

MakeRun = Callable[..., Run]
POLICY = (
    "Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's"
    " size and/or time limits)"
)


def seeds_of(make_run: MakeRun, count: int, *overrides: str) -> list[Run]:
    return [make_run("deit_s12", *overrides, seed=seed) for seed in range(count)]


def status_of(run: Run) -> RunStatus:
    return query_statuses([RunRecord.read(run)])[run.id]


def num_live(slurm: FakeSlurm) -> int:
    return sum(job["state"] in ("PENDING", "RUNNING") for job in slurm.jobs())


@pytest.mark.parametrize(
    ("message", "limit"),
    [
        (f"AssocMaxSubmitJobLimit; {POLICY}", "AssocMaxSubmitJobLimit"),
        (f"AssocGrpSubmitJobsLimit; {POLICY}", "AssocGrpSubmitJobsLimit"),
        (f"QOSMaxSubmitJobPerUserLimit; {POLICY}", "QOSMaxSubmitJobPerUserLimit"),
        (f"QOSGrpSubmitJobsLimit; {POLICY}", "QOSGrpSubmitJobsLimit"),
        (f"MaxSubmitJobsPerAccount; {POLICY}", "MaxSubmitJobsPerAccount"),
        (POLICY, "submitted jobs"),
        (f"AssocGrpJobsLimit; {POLICY}", "AssocGrpJobsLimit"),
        ("MaxSubmitJobs reached for user me", "MaxSubmitJobs"),
        ("FAILED: [*] Too many simultaneous jobs in queue", "submitted jobs"),
        ("You have reached the maximum number of queued jobs (40)", "submitted jobs"),
        ("You exceed the limit of 5 debug jobs", "submitted jobs"),
        ("[site] You already have 2 jobs; the maximum for students is 2", "submitted jobs"),
        ("Users may have at most 4 pending jobs here", "submitted jobs"),
        ("jobs of more than 4 nodes, at most 64 cores each, are not for guests", ""),
        (
            "Slurm temporarily unable to accept job, sleeping and retrying; Batch job submission"
            " failed: Resource temporarily unavailable",
            "MaxJobCount",
        ),
        (f"QOSMaxNodePerJobLimit; {POLICY}", ""),
        (f"QOSMaxWallDurationPerJobLimit; {POLICY}", ""),
        (f"QOSGrpCpuLimit; {POLICY}", ""),
        (f"AssocMaxCpuPerJobLimit; {POLICY}", ""),
        (f"QOSMaxMemoryPerJob; {POLICY}", ""),
        ("Batch job submission failed: Invalid qos specification", ""),
        ("Requested time limit is invalid (missing or exceeds some limit)", ""),
        ("the maximum time of jobs in this partition is 60 minutes", ""),
        ("Job size exceeds the maximum number of nodes", ""),
    ],
)
def test_a_limit_on_the_number_of_jobs_is_told_from_one_on_their_size(
    message: str, limit: str
) -> None:
    assert submit_limit(message) == limit


def test_what_a_limit_leaves_out_waits_and_the_next_launch_submits_it(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    runs, view = seeds_of(make_run, 4), RecordingView()
    slurm.limit(2)
    launched = SlurmBackend().launch(runs, snapshot, view)
    assert [*launched.outcomes.values()] == [Outcome.submitted] * 2 + [Outcome.waiting] * 2
    assert view.messages == [
        "deit_s12 seed 0: job 1 submitted (not launched yet)",
        "deit_s12 seed 1: job 2 submitted (not launched yet)",
        "2 of 4 submitted, 2 wait for the limit AssocMaxSubmitJobLimit",
    ]
    finish(runs[0])
    slurm.change("1", state="COMPLETED")
    launched = SlurmBackend().launch(runs, snapshot, view)
    assert [*launched.outcomes.values()] == [
        Outcome.done, Outcome.submitted, Outcome.submitted, Outcome.waiting,
    ]  # fmt: skip
    assert num_live(slurm) == 2


def test_one_refusal_answers_for_all_runs_of_the_same_account_and_partition(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    slurm.limit(0)
    runs = [*seeds_of(make_run, 4, "cluster.account=a"), make_run("deit_s24", "cluster.account=b")]
    assert [step.action for step in reconcile(runs, snapshot)] == [Action.wait] * 5
    submissions = [line for line in slurm.calls("sbatch") if "--test-only" not in line]
    assert len(submissions) == 2


def test_a_waiting_run_is_recorded_once_however_often_slurm_refuses_it(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    runs = seeds_of(make_run, 2)
    slurm.limit(0)
    list(reconcile(runs, snapshot))
    before = {path: path.read_bytes() for run in runs for path in run.dir.glob("*.json*")}
    list(reconcile(runs, snapshot, asked=False))
    assert {path: path.read_bytes() for run in runs for path in run.dir.glob("*.json*")} == before
    expected = RunStatus(RunState.waiting, "for the limit AssocMaxSubmitJobLimit")
    assert [status_of(run) for run in runs] == [expected] * 2
    assert explain(RunRecord.read(runs[1]), expected) == (
        "deit_s12 seed 1 is waiting: for the limit AssocMaxSubmitJobLimit. The next launch, or a"
        " --follow that runs, submits it."
    )


def test_following_sees_a_table_through_below_its_number_of_runs(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    runs, most = seeds_of(make_run, 4), [0]
    slurm.limit(1)

    def cluster_goes_on(update: Mapping[str, str]) -> None:
        most[0] = max(most[0], num_live(slurm))
        for job in slurm.jobs():
            if job["state"] == "PENDING":
                (run,) = (run for run in runs if f"seed{run.seed}-" in job["name"])
                finish(run)
                slurm.change(job["id"], state="COMPLETED")

    view = RecordingView(cluster_goes_on)
    launched = SlurmBackend(follow=True, refresh_s=0).launch(runs, snapshot, view)
    assert launched.outcomes == {run.id: Outcome.done for run in runs}
    assert most == [1]
    waited = "waiting: for the limit AssocMaxSubmitJobLimit"
    assert f"deit_s12 seed 3: job 4 submitted ({waited})" in view.messages


def test_following_stays_while_others_hold_the_whole_limit(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    run, looks = make_run(), []
    slurm.limit(0)

    def others_end(update: Mapping[str, str]) -> None:
        looks.append(update[run.id])
        if len(looks) == 4:
            slurm.limit(1)
        if slurm.jobs():
            finish(run)

    following = SlurmBackend(follow=True, refresh_s=0)
    launched = following.launch([run], snapshot, RecordingView(others_end))
    assert launched.outcomes == {run.id: Outcome.done}
    assert looks[:2] == ["waiting", "waiting"]


def test_following_stays_where_slurm_does_not_answer_and_no_run_has_a_job_yet(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    run, looks = make_run(), []
    slurm.limit(0)

    def controller_restarts(update: Mapping[str, str]) -> None:
        looks.append(update[run.id])
        slurm.refuse(**({"squeue": "Unable to contact slurm controller"} if len(looks) < 4 else {}))
        slurm.limit(1)
        if slurm.jobs():
            finish(run)

    following, view = SlurmBackend(follow=True, refresh_s=0), RecordingView(controller_restarts)
    launched = following.launch([run], snapshot, view)
    assert launched.outcomes == {run.id: Outcome.done}
    assert "unknown" in looks
    assert view.messages.count("SLURM is asked again every 0 s") == 1


def test_a_job_that_is_larger_than_a_limit_is_an_error(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    slurm.limit(0, f"sbatch: error: QOSMaxNodePerJobLimit\nsbatch: error: {POLICY}")
    with pytest.raises(LaunchError, match="QOSMaxNodePerJobLimit"):
        SlurmBackend().launch([make_run()], snapshot, RecordingView())


def test_a_launch_that_fails_midway_has_shown_each_job_that_it_submitted(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    shown: list[str] = []
    view = RecordingView(lambda notes: shown.extend(notes[run.id] for run in runs))
    slurm.limit(2, "sbatch: error: Invalid account")
    runs = seeds_of(make_run, 4)
    with pytest.raises(LaunchError, match="Invalid account"):
        SlurmBackend().launch(runs, snapshot, view)
    assert shown == ["submitted", "submitted", "waiting", "waiting"]
    assert view.messages[1:] == [
        "deit_s12 seed 1: job 2 submitted (not launched yet)",
        "2 of 4 submitted",
    ]


def test_at_most_as_many_jobs_as_a_launch_allows_are_queued(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    runs, view = seeds_of(make_run, 5, "cluster.max_queued=2"), RecordingView()
    SlurmBackend().launch(runs, snapshot, view)
    assert view.messages[-1] == "2 of 5 submitted, 3 wait for cluster.max_queued=2"
    slurm.change("1", state="RUNNING")
    slurm.change("2", state="PREEMPTED")
    list(reconcile(runs, snapshot, asked=False))
    assert [job["name"].split("-")[1] for job in slurm.jobs()] == ["seed0", "seed1", "seed1"]
    assert num_live(slurm) == 2


def test_a_dependent_run_waits_with_the_run_that_it_needs(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    run = make_run("cait_s24_featscale", "cluster.max_queued=1")
    assert run.upstream is not None
    both, other = [run.upstream, run], make_run("deit_s12", "cluster.max_queued=1")
    first = [step.action for step in reconcile([other, *both], snapshot)]
    assert first == [Action.submit, Action.wait, Action.wait]
    finish(other)
    slurm.change("1", state="COMPLETED")
    second = [step.action for step in reconcile([other, *both], snapshot, asked=False)]
    assert second == [Action.leave, Action.submit, Action.wait]
    finish(run.upstream)
    slurm.change("2", state="COMPLETED")
    assert [step.action for step in reconcile(both, snapshot)] == [Action.leave, Action.submit]
    assert slurm.jobs()[-1]["dependency"] == "singleton"


def test_a_waiting_run_that_a_person_cancels_waits_no_more(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    runs = seeds_of(make_run, 2, "cluster.max_queued=1")
    list(reconcile(runs, snapshot))
    control.cancel(runs[1])
    finish(runs[0])
    slurm.change("1", state="COMPLETED")
    assert [step.action for step in reconcile(runs, snapshot, asked=False)] == [Action.leave] * 2
    assert [step.action for step in reconcile(runs, snapshot)] == [Action.leave, Action.submit]


def test_a_cancelled_run_that_is_launched_again_goes_on_waiting_for_its_limit(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    run = make_run()
    list(reconcile([run], snapshot))
    control.cancel(run)
    slurm.limit(0)
    assert [step.action for step in reconcile([run], snapshot)] == [Action.wait]
    slurm.limit(1)
    assert [step.action for step in reconcile([run], snapshot, asked=False)] == [Action.submit]


def test_a_run_whose_job_was_cancelled_to_be_replaced_gets_one_when_there_is_room(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    run = make_run("cait_s24_featscale")
    assert run.upstream is not None
    both = [run.upstream, run]
    list(reconcile(both, snapshot))
    slurm.change("1", state="NODE_FAIL")
    slurm.change("2", reason="DependencyNeverSatisfied")
    slurm.limit(1)
    # the job that can never start holds the only place, and gives it up
    assert [step.action for step in reconcile(both, snapshot, asked=False)] == [
        Action.wait, Action.wait,
    ]  # fmt: skip
    assert [job["state"] for job in slurm.jobs()] == ["NODE_FAIL", "CANCELLED"]
    slurm.limit(2)
    assert [step.action for step in reconcile(both, snapshot, asked=False)] == [
        Action.submit, Action.submit,
    ]  # fmt: skip
