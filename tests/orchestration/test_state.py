from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from completed import finish
from fake_slurm import FakeSlurm

from antioversmooth.orchestration.monitor.state import query_statuses
from antioversmooth.orchestration.slurm.submission import cancel, submit
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import Run, RunRecord, RunState, RunStatus, journal
from antioversmooth.runs.attempts import EndReason
from antioversmooth.runs.jobs import EventKind, append_event

MakeRun = Callable[..., Run]
BeginAttempt = Callable[..., int]


@pytest.fixture
def submitted(slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot) -> Run:
    """A run with job 1."""
    run = make_run()
    submit(run, snapshot)
    return run


def state_of(run: Run, *, later_s: float = 0) -> RunStatus:
    return query_statuses([RunRecord.read(run, now=time.time() + later_s)])[run.id]


HOUR = 3600
"""Longer than the signs of life of an attempt count."""


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Resources", "it is next, and waits for free nodes [Resources]"),
        ("Priority", "jobs of higher priority run first [Priority]"),
        (
            "QOSMaxGRESPerUser",
            "a limit of your account or quality of service is reached [QOSMaxGRESPerUser]",
        ),
        ("SomethingNew", "it waits [SomethingNew]"),
    ],
)
def test_a_waiting_job_says_why_in_words(
    submitted: Run, slurm: FakeSlurm, reason: str, words: str
) -> None:
    slurm.change("1", reason=reason)
    assert state_of(submitted) == RunStatus(RunState.pending, words, job_id="1")


def test_a_held_job_says_how_to_release_it(submitted: Run, slurm: FakeSlurm) -> None:
    slurm.change("1", reason="JobHeldUser")
    assert state_of(submitted) == RunStatus(
        RunState.held, "you hold it (scontrol release 1) [JobHeldUser]", job_id="1"
    )


def test_a_job_that_its_node_could_not_start_is_held(submitted: Run, slurm: FakeSlurm) -> None:
    slurm.change("1", reason="launch failed requeued held")
    state = state_of(submitted)
    assert state.state is RunState.held
    assert "its node could not start it (scontrol release 1 retries)" in state.detail


def test_other_jobs_of_the_same_user_do_not_matter(
    submitted: Run, slurm: FakeSlurm, tmp_path: Path
) -> None:
    """Arrays, jobs of several parts, names of several lines."""
    squeue = tmp_path / "bin" / "squeue"
    squeue.rename(tmp_path / "bin" / "own")
    others = "8_[0-9]|PENDING|me|None||N/A|array\n9+0|RUNNING|me|None|node1|N/A|parts\n"
    others += "10|RUNNING|me|None|node1|N/A|two\nlines"
    squeue.write_text(f"#!/bin/sh\necho '{others}'; exec {tmp_path}/bin/own \"$@\"\n")
    squeue.chmod(0o755)
    assert state_of(submitted).state is RunState.pending


def test_a_requeued_job_says_when_it_may_start(
    submitted: Run, slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    begin_attempt(submitted, "1")
    slurm.change("1", reason="BeginTime", start="2026-01-01T10:00:00")
    state = state_of(submitted)
    assert state.state is RunState.requeued
    assert "not before 2026-01-01T10:00:00" in state.detail


def test_a_running_job_says_where(
    submitted: Run, slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    begin_attempt(submitted, "1")
    slurm.change("1", state="RUNNING", nodes="node[1-2]")
    assert state_of(submitted) == RunStatus(RunState.running, "", job_id="1", nodes="node[1-2]")


def test_a_running_job_without_a_sign_of_life_hangs(
    submitted: Run, slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    slurm.change("1", state="RUNNING", nodes="node1")
    begin_attempt(submitted, "1")
    (submitted.dir / "heartbeat").touch()
    silence = submitted.experiment.runtime.timeout_s + 60
    assert state_of(submitted).state is RunState.running
    assert (
        query_statuses([RunRecord.read(submitted, now=time.time() + silence)])[submitted.id].state
        is RunState.hung
    )


def test_a_job_that_has_just_begun_another_turn_does_not_hang(
    submitted: Run, slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    """It gives its first sign of life when torch is imported; the last one is of the turn
    before."""
    begin_attempt(submitted, "1")
    (submitted.dir / "heartbeat").touch()
    later = time.time() + submitted.experiment.runtime.timeout_s + 60
    turn = datetime.fromtimestamp(later - 10).isoformat(timespec="seconds")
    slurm.change("1", state="RUNNING", nodes="node1", start=turn)
    assert (
        query_statuses([RunRecord.read(submitted, now=later)])[submitted.id].state
        is RunState.running
    )


@pytest.mark.parametrize(
    ("word", "phase"),
    [
        ("PREEMPTED", RunState.preempted),
        ("TIMEOUT", RunState.timed_out),
        ("NODE_FAIL", RunState.node_failure),
        ("OUT_OF_MEMORY", RunState.out_of_memory),
        ("FAILED", RunState.failed),
    ],
)
@pytest.mark.parametrize("told_by", ["squeue", "sacct"])
def test_how_a_job_ended_is_told_by_the_queue_or_by_accounting(
    submitted: Run,
    slurm: FakeSlurm,
    begin_attempt: BeginAttempt,
    word: str,
    phase: RunState,
    told_by: str,
) -> None:
    begin_attempt(submitted, "1")
    if told_by == "squeue":
        slurm.change("1", state=word, nodes="node1")
    else:
        slurm.forget("1")
        slurm.account(f"1|{word}|node1|2026-01-01T10:00:00|name")
    assert state_of(submitted).state is phase


def test_a_job_cancelled_while_it_waited_differs_from_one_cancelled_while_it_ran(
    submitted: Run, slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    slurm.forget("1")
    slurm.account("1|CANCELLED by 1000||Unknown|name")
    assert state_of(submitted).state is RunState.cancelled_pending
    begin_attempt(submitted, "1")
    assert state_of(submitted).state is RunState.cancelled_running


def test_accounting_that_lags_behind_is_not_believed(
    submitted: Run, slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    """sacct says RUNNING for seconds, once for minutes, after a job ended."""
    begin_attempt(submitted, "1")
    slurm.account("1|RUNNING|node1|2026-01-01T10:00:00|name")
    slurm.change("1", state="FAILED")
    assert state_of(submitted).state is RunState.failed
    slurm.forget("1")
    assert state_of(submitted, later_s=HOUR).state is RunState.lost


def test_without_accounting_the_directory_tells_how_a_forgotten_job_ended(
    submitted: Run, slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    attempt = begin_attempt(submitted, "1")
    slurm.forget("1")
    assert state_of(submitted, later_s=HOUR).state is RunState.lost
    end = {"attempt": attempt, "event": "end", "reason": "timeout", "message": "saved at step 7"}
    journal.append(submitted.attempts_path, end)
    assert state_of(submitted) == RunStatus(
        RunState.timed_out, "saved at step 7", EndReason.timeout, "1"
    )


def test_a_result_is_done_whatever_slurm_says(submitted: Run, slurm: FakeSlurm) -> None:
    slurm.change("1", state="FAILED")
    finish(submitted)
    assert state_of(submitted).state is RunState.done


def test_a_cancel_is_remembered_when_slurm_has_forgotten_the_job(
    submitted: Run, slurm: FakeSlurm
) -> None:
    cancel(submitted)
    slurm.forget("1")
    assert state_of(submitted).state is RunState.cancelled_pending


def test_a_job_that_was_submitted_anew_counts_not_the_old_one(
    submitted: Run, slurm: FakeSlurm, snapshot: Snapshot
) -> None:
    slurm.change("1", state="FAILED")
    submit(submitted, snapshot)
    assert state_of(submitted) == RunStatus(
        RunState.pending, "SLURM has not looked at it yet [None]", job_id="2"
    )


def test_a_job_that_ended_before_any_attempt_says_its_exit_code(
    submitted: Run, slurm: FakeSlurm
) -> None:
    append_event(
        submitted.jobs_path, EventKind.ended, job_id="1", code=127, attempt=None, state="RUNNING"
    )
    slurm.change("1", state="FAILED")
    assert state_of(submitted) == RunStatus(
        RunState.failed, "its processes ended with exit code 127", EndReason.crash, "1"
    )


def test_when_slurm_does_not_answer_nothing_is_made_up(submitted: Run, slurm: FakeSlurm) -> None:
    slurm.refuse(
        squeue="slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    )
    state = state_of(submitted)
    assert state.state is RunState.unknown
    assert "Unable to contact slurm controller" in state.detail


def test_runs_of_this_machine_ask_no_scheduler(slurm: FakeSlurm, make_run: MakeRun) -> None:
    fresh, done = make_run(), make_run(seed=1)
    finish(done)
    assert [
        state.state
        for state in query_statuses([RunRecord.read(fresh), RunRecord.read(done)]).values()
    ] == [RunState.missing, RunState.done]
    assert not slurm.calls("squeue")


def test_five_hundred_jobs_cost_two_squeues_and_one_sacct(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    first = make_run()
    some = [
        Run(first.experiment, seed, f"{seed:064x}", first.dir.parent / f"seed{seed}")
        for seed in range(500)
    ]
    for number, run in enumerate(some):
        run.dir.mkdir()
        append_event(run.jobs_path, EventKind.submitted, job_id=str(number))
    slurm.account(*(f"{number}|FAILED|node1|2026-01-01T10:00:00|name" for number in range(500)))
    known = query_statuses([RunRecord.read(run) for run in some])
    assert {status.state for status in known.values()} == {RunState.failed}
    assert [len(slurm.calls(one)) for one in ("squeue", "scontrol", "sacct")] == [2, 1, 1]
