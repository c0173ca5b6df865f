from __future__ import annotations

from collections.abc import Callable

import pytest
from completed import finish
from fake_slurm import FakeSlurm

from antioversmooth.orchestration.monitor.explain import explain
from antioversmooth.orchestration.monitor.state import query_statuses
from antioversmooth.orchestration.monitor.status import statuses
from antioversmooth.orchestration.slurm.reconcile import retry
from antioversmooth.orchestration.slurm.submission import cancel, submit
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import Run, RunRecord, journal
from antioversmooth.runs.jobs import EventKind, append_event

MakeRun = Callable[..., Run]
BeginAttempt = Callable[..., int]


def why(run: Run) -> str:
    record = RunRecord.read(run)
    return explain(record, query_statuses([record])[run.id])


@pytest.fixture
def run(slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot) -> Run:
    """A run with job 1, that may crash once."""
    run = make_run("deit_s12", "cluster.max_crashes=1")
    submit(run, snapshot)
    return run


def test_a_waiting_run_needs_its_turn(run: Run, slurm: FakeSlurm) -> None:
    slurm.change("1", reason="Resources")
    assert (
        why(run) == "deit_s12 seed 0 is pending: it is next, and waits for free nodes [Resources]"
        " (job 1). It waits for its turn."
    )


def test_a_running_run_says_where_it_is_and_for_how_long(
    run: Run, slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    slurm.change("1", state="RUNNING", nodes="node1")
    attempt = begin_attempt(run, "1", step=40)
    left = run.experiment.total_steps - 96
    speed = left * run.experiment.recipe.global_batch / 60
    metrics = {"step": 96, "val/top1": 45.24, "throughput/images_per_s": speed}
    journal.append(run.metrics_path, {"attempt": attempt, "epoch": 1, **metrics})
    (run.dir / "heartbeat").touch()
    assert (
        why(run)
        == "deit_s12 seed 0 is running (job 1 on node1). Attempt 1 began after step 40. It has"
        f" reached step 96 of {run.experiment.total_steps}, top-1 45.2 %, 1:00 left. It resumes"
        " by itself after a time limit or a preemption."
    )


def test_a_run_that_was_given_up_says_what_starts_it_again(
    run: Run, slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    end = {
        "attempt": begin_attempt(run, "1", step=40),
        "event": "end",
        "reason": "crash",
        "message": "ValueError: no",
    }
    journal.append(run.attempts_path, end)
    (run.dir / "logs" / "attempt1" / "rank0.err").write_text("Traceback ...\nValueError: no\n")
    slurm.change("1", state="FAILED")
    assert (
        why(run)
        == "deit_s12 seed 0 failed: ValueError: no (job 1). Attempt 1 began after step 40 and"
        " ended as crash. It was given up: it crashed once (cluster.max_crashes). Fix the"
        " cause, then start it again with `antioversmooth retry`. The end of its log:\n"
        "    Traceback ...\n    ValueError: no"
    )
    retry(run)
    assert why(run).endswith("The next launch, or a --follow that runs, submits it.")


def test_a_cancelled_run_waits_for_a_launch(run: Run) -> None:
    cancel(run)
    assert (
        why(run) == "deit_s12 seed 0 was cancelled before it began: job 1 was cancelled (job 1). "
        "It resumes when it is launched again."
    )


def test_a_checkpoint_that_was_torn_is_named(run: Run, begin_attempt: BeginAttempt) -> None:
    attempt = begin_attempt(run, "1")
    torn = {"attempt": attempt, "event": "torn-checkpoint", "file": "step00000040-attempt1.pt"}
    journal.append(run.attempts_path, torn)
    assert "began after step 0 (not read: step00000040-attempt1.pt is torn)." in why(run)


def test_a_run_whose_journal_and_checkpoints_end_at_different_steps_tells_both(
    run: Run, slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    attempt = begin_attempt(run, "1")
    journal.append(run.metrics_path, {"attempt": attempt, "step": 200, "epoch": 3})
    slurm.change("1", state="NODE_FAIL")
    assert (
        "step 200 of 496, by its journal; it has no checkpoint, so the next start begins again."
        in why(run)
    )
    (run.checkpoints_dir / f"step00000124-attempt{attempt}.pt").touch()
    journal.append(
        run.attempts_path, {"attempt": attempt, "event": "end", "reason": "node-fail", "step": 200}
    )
    slurm.change("1", state="NODE_FAIL")
    assert (
        "It has reached step 200 of 496, by its journal; the next start resumes from the checkpoint"
        " of step 124." in why(run)
    )
    (run.checkpoints_dir / f"step00000200-attempt{attempt}.pt").touch()
    assert "It has reached step 200 of 496. The next" in why(run)


def test_a_checkpoint_beyond_the_journal_says_how_far_the_run_is(
    run: Run, slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    attempt = begin_attempt(run, "1")
    (run.checkpoints_dir / f"step00000002-attempt{attempt}.pt").touch()
    slurm.change("1", state="NODE_FAIL")
    assert "It has reached step 2 of 496, by its checkpoint. The next" in why(run)
    journal.append(run.metrics_path, {"attempt": attempt, "step": 1})
    assert "It has reached step 2 of 496, by its checkpoint. The next" in why(run)


def test_checkpoints_that_were_superseded_are_no_place_to_go_on_from(
    run: Run, begin_attempt: BeginAttempt
) -> None:
    first, second = begin_attempt(run, "1"), begin_attempt(run, "1", step=62)
    for step, attempt in ((62, first), (186, first), (124, second)):
        (run.checkpoints_dir / f"step{step:08d}-attempt{attempt}.pt").touch()
    record = RunRecord.read(run)
    assert record.saved_step == 124
    assert [checkpoint.step for checkpoint in record.all_checkpoints] == [186, 124, 62]


def test_a_job_that_still_saves_after_a_cancel_does_not_go_on_by_itself(
    run: Run, slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    begin_attempt(run, "1")
    cancel(run)
    slurm.change("1", state="COMPLETING", nodes="node1")
    assert (
        why(run) == "deit_s12 seed 0 is running: completing, cancelled (job 1 on node1). Attempt"
        " 1 began after step 0. It resumes when it is launched again."
    )


def test_a_cancelled_job_is_not_reported_as_preempted(
    run: Run, slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    first = begin_attempt(run, "1")
    end = {
        "attempt": first,
        "event": "end",
        "reason": "preempted",
        "step": 0,
        "message": "preempted after step 3",
    }
    journal.append(run.attempts_path, end)
    second = begin_attempt(run, "1")
    cancel(run)
    journal.append(run.attempts_path, {**end, "attempt": second})
    attempts = RunRecord.read(run).attempts
    assert [(attempt.reason.value, attempt.message) for attempt in attempts] == [
        ("preempted", "preempted after step 3"),
        ("cancelled", "cancelled after step 0"),
    ]
    assert "and ended as cancelled. It resumes when it is launched again." in why(run)
    (seen,) = statuses([run], [])
    assert [attempt["reason"] for attempt in seen["attempts"]] == ["preempted", "cancelled"]


def test_a_run_says_what_it_starts_from(make_run: MakeRun) -> None:
    run = make_run("cait_s24_featscale")
    assert (
        why(run)
        == "cait_s24_featscale seed 0 is missing. It starts from cait_s24 seed 0, which is not"
        " done. "
        "It begins when it is launched."
    )


def test_a_done_run_needs_nothing(make_run: MakeRun) -> None:
    run = make_run()
    finish(run)
    assert why(run) == "deit_s12 seed 0 is done. Nothing is left to do."


def test_a_run_between_turns_says_how_many_of_them_failed(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    run = make_run("deit_s12", "cluster.max_without_progress=3")
    submit(run, snapshot)
    slurm.change("1", state="RUNNING", nodes="node1")
    assert "without a new checkpoint" not in why(run)
    failed = {"job_id": "1", "code": 143, "state": "RUNNING"}
    append_event(run.jobs_path, EventKind.ended, **failed)
    one = "1 start ended without a new checkpoint, the last one with exit code 143; after 3 it is"
    assert one in why(run)
    append_event(run.jobs_path, EventKind.ended, **failed)
    assert "2 starts in a row ended without a new checkpoint" in why(run)
    retry(run)
    assert "without a new checkpoint" not in why(run)
