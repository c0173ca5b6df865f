from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import completed
import pytest
from fake_slurm import FakeSlurm

from antioversmooth.orchestration.slurm import epilogue
from antioversmooth.orchestration.slurm.client import LimitReached
from antioversmooth.orchestration.slurm.epilogue import finish
from antioversmooth.orchestration.slurm.submission import cancel, submit
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import Run, RunRecord, journal
from antioversmooth.runs.attempts import EndReason
from antioversmooth.runs.code import checksums, code_id, source_files
from antioversmooth.runs.jobs import read_events

MakeRun = Callable[..., Run]
BeginAttempt = Callable[..., int]
PROJECT = Path(__file__).parents[2]


@pytest.fixture
def start(slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot) -> Callable[..., Run]:
    """A run whose job 1 runs."""

    def submitted(*overrides: str) -> Run:
        run = make_run("deit_s12", *overrides)
        submit(run, snapshot)
        slurm.change("1", state="RUNNING")
        return run

    return submitted


def end(run: Run, attempt: int, reason: str) -> None:
    journal.append(run.attempts_path, {"attempt": attempt, "event": "end", "reason": reason})


def requeued(slurm: FakeSlurm) -> bool:
    return bool([call for call in slurm.calls("scontrol") if "requeue" in call])


@pytest.mark.parametrize("reason", ["preempted", "timeout"])
def test_an_attempt_that_saved_and_ended_goes_on(
    start: Callable[..., Run], slurm: FakeSlurm, begin_attempt: BeginAttempt, reason: str
) -> None:
    run = start()
    end(run, begin_attempt(run, "1"), reason)
    assert finish(run, 0, 0.0, "1") == 75
    assert slurm.calls("scontrol") == ["scontrol requeue 1"]


def test_a_completed_run_ends_its_job_with_success(
    start: Callable[..., Run], slurm: FakeSlurm
) -> None:
    run = start()
    completed.finish(run)
    assert finish(run, 0, 0.0, "1") == 0
    assert not requeued(slurm)


def test_a_killed_rank_ends_the_attempt_as_a_crash_and_the_run_goes_on(
    start: Callable[..., Run], slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    run = start()
    begin_attempt(run, "1")
    assert finish(run, 137, 0.0, "1") == 137
    last = run.attempts()[-1]
    assert last.reason is EndReason.crash
    assert requeued(slurm)


OOM = [
    "srun: error: node1: task 1: Out Of Memory",
    (
        "slurmstepd: error: Detected 1 oom_kill event in StepId=1.0. Some of the step tasks have"
        " been OOM Killed."
    ),
    "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=1.0.",
    "slurmstepd: error: Step 1.0 exceeded memory limit (2097152 > 1048576), being killed",
]


@pytest.mark.parametrize("words", OOM)
def test_lack_of_memory_is_read_from_what_slurm_says(
    start: Callable[..., Run], slurm: FakeSlurm, begin_attempt: BeginAttempt, words: str
) -> None:
    """The rank that was left knows no better than that it lost the other one."""
    run = start()
    end(run, begin_attempt(run, "1"), "crash")
    log = run.dir / "slurm" / "1_0_log.err"
    log.write_text(f"{words}\n")
    finish(run, 137, 0.0, "1")
    assert [a.reason.value for a in run.attempts() if a.reason] == ["out-of-memory"]
    slurm.change("1", state="RUNNING")
    begin_attempt(run, "1")
    # the log of the job goes on in each turn
    finish(run, 137, 0.0, "1")
    assert [a.reason.value for a in run.attempts() if a.reason] == [
        "out-of-memory",
        "crash",
    ]


def test_a_node_that_failed_is_read_from_what_slurm_says(
    start: Callable[..., Run], slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    run = start()
    end(run, begin_attempt(run, "1"), "crash")
    (run.dir / "slurm" / "1_0_log.err").write_text("srun: error: Node failure on node2\n")
    finish(run, 1, 0.0, "1")
    assert run.attempts()[-1].reason.value == "node-fail"


def test_a_turn_that_slurm_gave_up_says_nothing_of_the_next_one(
    start: Callable[..., Run], slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    """Its node comes back, and its batch script with it, while the job runs elsewhere."""
    run = start()
    begin_attempt(run, "1")
    begin_attempt(run, "1", turn=1)
    slurm.change("1", restarts="1")
    finish(run, 1, 0.0, "1")
    assert [r["attempt"] for r in journal.read(run.attempts_path) if r["event"] == "end"] == [1]
    assert not requeued(slurm)


def test_a_run_that_was_told_to_stop_does_not_go_on(
    start: Callable[..., Run], slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    """At a step limit, or by Ctrl-C."""
    run = start()
    end(run, begin_attempt(run, "1"), "cancelled")
    assert finish(run, 0, 0.0, "1") == 75
    assert not requeued(slurm)


def test_a_cancelled_run_does_not_come_back(
    start: Callable[..., Run], slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    run = start()
    # a rank ends so on scancel's SIGTERM
    end(run, begin_attempt(run, "1"), "preempted")
    cancel(run)
    slurm.change("1", state="RUNNING")
    finish(run, 0, 0.0, "1")
    assert not requeued(slurm)


def test_a_job_that_slurm_is_ending_is_not_brought_back(
    start: Callable[..., Run], slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    """After scancel, the job is completing; a requeue would revive it."""
    run = start()
    end(run, begin_attempt(run, "1"), "preempted")
    slurm.change("1", state="COMPLETING")
    finish(run, 0, 0.0, "1")
    assert not requeued(slurm)


def test_a_run_over_its_budget_does_not_go_on(
    start: Callable[..., Run], slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    run = start("cluster.max_crashes=1")
    begin_attempt(run, "1")
    assert finish(run, 1, 0.0, "1") == 1
    assert not requeued(slurm)


def test_a_turn_without_an_attempt_is_noted_as_such(
    start: Callable[..., Run], slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    run = start()
    end(run, begin_attempt(run, "1"), "preempted")
    finish(run, 1, time.time() + 1, "1")
    assert read_events(run.jobs_path)[-1].attempt is None


@pytest.mark.parametrize("code", [0, 1, 2, 127])
def test_a_setup_that_ended_its_shell_is_the_recorded_reason_and_is_tried_again(
    start: Callable[..., Run], slurm: FakeSlurm, code: int
) -> None:
    run = start()
    (run.dir / "slurm" / "1_stage.txt").write_text("setup module load\x1b[31m cuda\n")
    assert finish(run, code, 0.0, "1") == 1
    ended = read_events(run.jobs_path)[-1]
    line = "at `module load\\u001b[31m cuda`"
    assert ended.message == (
        f"cluster.setup ended the job's shell {line} with exit code {code}, before srun"
    )
    assert ended.attempt is None
    assert requeued(slurm)


def test_a_trap_of_setup_does_not_change_the_exit_code_of_srun(
    start: Callable[..., Run], slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    run = start()
    begin_attempt(run, "1")
    (run.dir / "slurm" / "1_stage.txt").write_text("srun 137\n")
    assert finish(run, 0, 0.0, "1") == 137
    assert read_events(run.jobs_path)[-1].code == 137


def test_where_requeue_is_forbidden_the_job_submits_its_successor(
    start: Callable[..., Run], slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    run = start("cluster.requeue=false")
    end(run, begin_attempt(run, "1"), "timeout")
    finish(run, 0, 0.0, "1")
    first, second = slurm.jobs()
    assert (second["name"], second["script"]) == (first["name"], first["script"])
    # it starts when this job is gone
    assert second["dependency"] == "singleton"
    assert RunRecord.read(run).newest_job_id == "2"
    assert not requeued(slurm)


def test_where_slurm_refuses_the_requeue_the_job_submits_its_successor(
    start: Callable[..., Run], slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    """Though its profile says that it may go back into the queue."""
    run = start()
    end(run, begin_attempt(run, "1"), "timeout")
    slurm.refuse(scontrol="Requested operation is presently disabled for job 1")
    finish(run, 0, 0.0, "1")
    assert [job["id"] for job in slurm.jobs()] == ["1", "2"]
    assert RunRecord.read(run).newest_job_id == "2"


def test_a_controller_that_restarts_is_waited_for(
    start: Callable[..., Run],
    slurm: FakeSlurm,
    begin_attempt: BeginAttempt,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = start()
    end(run, begin_attempt(run, "1"), "timeout")
    slurm.refuse(squeue="Unable to contact slurm controller (connect failure)")
    monkeypatch.setattr(epilogue.time, "sleep", lambda seconds: slurm.refuse())
    finish(run, 0, 0.0, "1")
    assert requeued(slurm)


def test_the_batch_script_ends_in_this(
    start: Callable[..., Run], slurm: FakeSlurm, begin_attempt: BeginAttempt, tmp_path: Path
) -> None:
    """The script as rendered, under bash, with stand-ins for srun and scontrol."""
    run = start()
    (slurm.home / "srun_exit").write_text("9")
    code = tmp_path / "snapshots" / ("0" * 12)
    code.parent.mkdir()
    code.symlink_to(PROJECT)
    intent = json.loads((run.dir / "intent.json").read_text())
    intent["snapshot"] = code_id(checksums(PROJECT, source_files(PROJECT)))
    (run.dir / "intent.json").write_text(json.dumps(intent))
    environment = {**os.environ, "SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "node1"}
    done = subprocess.run(
        ["bash", run.dir / "slurm" / "job.sh"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 9, done.stderr
    assert slurm.calls("srun")[0].endswith(
        f"{sys.executable} -u -m antioversmooth.orchestration.slurm.rank {run.dir}"
    )
    assert read_events(run.jobs_path)[-1].code == 9
    assert "scontrol requeue 1" in slurm.calls("scontrol")


def test_a_run_whose_successor_has_no_room_in_the_queue_waits_for_a_launch(
    start: Callable[..., Run], slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    run = start("cluster.requeue=false")
    end(run, begin_attempt(run, "1"), "timeout")
    slurm.limit(1)
    with pytest.raises(LimitReached):
        finish(run, 0, 0.0, "1")
    assert RunRecord.read(run).waiting_reason == "for the limit AssocMaxSubmitJobLimit"
