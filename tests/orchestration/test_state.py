from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from completed import finish
from fake_slurm import FakeSlurm

from antioversmooth.orchestration.monitor.state import Phase, State, states
from antioversmooth.orchestration.slurm import jobs
from antioversmooth.orchestration.slurm.submission import cancel, submit
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import Run, journal

MakeRun = Callable[..., Run]
BeginAttempt = Callable[..., int]


@pytest.fixture
def submitted(slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot) -> Run:
    """A run with job 1."""
    run = make_run()
    submit(run, snapshot)
    return run


def state_of(run: Run) -> State:
    return states([run])[run.id]


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Resources", "it is next, and waits for nodes to come free [Resources]"),
        ("Priority", "jobs of higher priority are before it [Priority]"),
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
    assert state_of(submitted) == State(Phase.pending, words, "1")


def test_a_held_job_says_how_to_release_it(submitted: Run, slurm: FakeSlurm) -> None:
    slurm.change("1", reason="JobHeldUser")
    assert state_of(submitted) == State(
        Phase.held, "you hold it (scontrol release 1) [JobHeldUser]", "1"
    )


def test_a_job_that_its_node_could_not_start_is_held(submitted: Run, slurm: FakeSlurm) -> None:
    slurm.change("1", reason="launch failed requeued held")
    state = state_of(submitted)
    assert state.phase is Phase.held
    assert "its node could not start it (scontrol release 1 lets it try again)" in state.detail


def test_other_jobs_of_the_same_user_do_not_matter(
    submitted: Run, slurm: FakeSlurm, tmp_path: Path
) -> None:
    """Arrays, jobs of several parts, names of several lines."""
    squeue = tmp_path / "bin" / "squeue"
    squeue.rename(tmp_path / "bin" / "own")
    others = "8_[0-9]|PENDING|None||N/A|array\n9+0|RUNNING|None|node1|N/A|parts\n"
    others += "10|RUNNING|None|node1|N/A|two\nlines"
    squeue.write_text(f"#!/bin/sh\necho '{others}'; exec {tmp_path}/bin/own \"$@\"\n")
    squeue.chmod(0o755)
    assert state_of(submitted).phase is Phase.pending


def test_a_requeued_job_says_when_it_may_start(
    submitted: Run, slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    begin_attempt(submitted, "1")
    slurm.change("1", reason="BeginTime", start="2026-01-01T10:00:00")
    state = state_of(submitted)
    assert state.phase is Phase.requeued
    assert "not before 2026-01-01T10:00:00" in state.detail


def test_a_running_job_says_where(
    submitted: Run, slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    begin_attempt(submitted, "1")
    slurm.change("1", state="RUNNING", nodes="node[1-2]")
    assert state_of(submitted) == State(Phase.running, "", "1", "node[1-2]")


def test_a_running_job_without_a_sign_of_life_hangs(
    submitted: Run, slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    slurm.change("1", state="RUNNING", nodes="node1")
    begin_attempt(submitted, "1")
    (submitted.dir / "heartbeat").touch()
    silence = submitted.experiment.runtime.timeout_s + 60
    assert state_of(submitted).phase is Phase.running
    assert states([submitted], now=time.time() + silence)[submitted.id].phase is Phase.hung


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
    assert states([submitted], now=later)[submitted.id].phase is Phase.running


@pytest.mark.parametrize(
    ("word", "phase"),
    [
        ("PREEMPTED", Phase.preempted),
        ("TIMEOUT", Phase.timed_out),
        ("NODE_FAIL", Phase.node_failure),
        ("OUT_OF_MEMORY", Phase.out_of_memory),
        ("FAILED", Phase.failed),
    ],
)
@pytest.mark.parametrize("told_by", ["squeue", "sacct"])
def test_how_a_job_ended_is_told_by_the_queue_or_by_accounting(
    submitted: Run,
    slurm: FakeSlurm,
    begin_attempt: BeginAttempt,
    word: str,
    phase: Phase,
    told_by: str,
) -> None:
    begin_attempt(submitted, "1")
    if told_by == "squeue":
        slurm.change("1", state=word, nodes="node1")
    else:
        slurm.forget("1")
        slurm.account(f"1|{word}|node1|2026-01-01T10:00:00|name")
    assert state_of(submitted).phase is phase


def test_a_job_cancelled_while_it_waited_differs_from_one_cancelled_while_it_ran(
    submitted: Run, slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    slurm.forget("1")
    slurm.account("1|CANCELLED by 1000||Unknown|name")
    assert state_of(submitted).phase is Phase.cancelled_pending
    begin_attempt(submitted, "1")
    assert state_of(submitted).phase is Phase.cancelled_running


def test_accounting_that_lags_behind_is_not_believed(
    submitted: Run, slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    """sacct says RUNNING for seconds, once for minutes, after a job ended."""
    begin_attempt(submitted, "1")
    slurm.account("1|RUNNING|node1|2026-01-01T10:00:00|name")
    slurm.change("1", state="FAILED")
    assert state_of(submitted).phase is Phase.failed
    slurm.forget("1")
    assert state_of(submitted).phase is Phase.lost


def test_without_accounting_the_directory_tells_how_a_forgotten_job_ended(
    submitted: Run, slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    attempt = begin_attempt(submitted, "1")
    slurm.forget("1")
    assert state_of(submitted).phase is Phase.lost
    end = {"attempt": attempt, "event": "end", "reason": "timeout", "message": "saved at step 7"}
    journal.append(submitted.attempts_path, end)
    assert state_of(submitted) == State(Phase.timed_out, "saved at step 7", "1")


def test_a_result_is_done_whatever_slurm_says(submitted: Run, slurm: FakeSlurm) -> None:
    slurm.change("1", state="FAILED")
    finish(submitted)
    assert state_of(submitted).phase is Phase.done


def test_a_cancel_is_remembered_when_slurm_has_forgotten_the_job(
    submitted: Run, slurm: FakeSlurm
) -> None:
    cancel(submitted)
    slurm.forget("1")
    assert state_of(submitted).phase is Phase.cancelled_pending


def test_a_job_that_was_submitted_anew_counts_not_the_old_one(
    submitted: Run, slurm: FakeSlurm, snapshot: Snapshot
) -> None:
    slurm.change("1", state="FAILED")
    submit(submitted, snapshot)
    assert state_of(submitted) == State(Phase.pending, "SLURM has not looked at it yet [None]", "2")


def test_a_job_that_ended_before_any_attempt_says_its_exit_code(
    submitted: Run, slurm: FakeSlurm
) -> None:
    jobs.note(submitted, "ended", job_id="1", code=127, attempt=None, state="RUNNING")
    slurm.change("1", state="FAILED")
    assert state_of(submitted) == State(Phase.failed, "its processes ended with exit code 127", "1")


def test_when_slurm_does_not_answer_nothing_is_made_up(submitted: Run, slurm: FakeSlurm) -> None:
    slurm.refuse(
        squeue="slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    )
    state = state_of(submitted)
    assert state.phase is Phase.unknown
    assert "Unable to contact slurm controller" in state.detail


def test_runs_of_this_machine_ask_no_scheduler(slurm: FakeSlurm, make_run: MakeRun) -> None:
    fresh, done = make_run(), make_run(seed=1)
    finish(done)
    assert [state.phase for state in states([fresh, done]).values()] == [Phase.missing, Phase.done]
    assert not slurm.calls("squeue")


def test_five_hundred_jobs_cost_one_squeue_and_one_sacct(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    first = make_run()
    some = [
        Run(first.experiment, seed, f"{seed:064x}", first.dir.parent / f"seed{seed}")
        for seed in range(500)
    ]
    for number, run in enumerate(some):
        run.dir.mkdir()
        jobs.note(run, "submitted", job_id=str(number))
    slurm.account(*(f"{number}|FAILED|node1|2026-01-01T10:00:00|name" for number in range(500)))
    assert {state.phase for state in states(some).values()} == {Phase.failed}
    assert (len(slurm.calls("squeue")), len(slurm.calls("sacct"))) == (1, 1)
