from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from antioversmooth.orchestration.slurm.reconcile import retry
from antioversmooth.orchestration.slurm.retry_budget import RetryDecision, retry_decision
from antioversmooth.runs import Run, RunRecord, journal
from antioversmooth.runs.jobs import EventKind, append_event

MakeRun = Callable[..., Run]
BeginAttempt = Callable[..., int]


def decision(run: Run) -> RetryDecision:
    return retry_decision(RunRecord.read(run))


@pytest.fixture
def attempt(begin_attempt: BeginAttempt) -> Callable[..., None]:
    """An attempt that started at one step, saved at another, and ended for a reason or without a
    word."""

    def add(run: Run, reason: str | None, *, start: int = 0, saved: int | None = None) -> None:
        number = begin_attempt(run, "1", step=start)
        if saved is not None:
            (run.checkpoints_dir / f"step{saved:08d}-attempt{number}.pt").touch()
        if reason is not None:
            journal.append(run.attempts_path, {"attempt": number, "event": "end", "reason": reason})

    return add


@pytest.mark.parametrize("reason", ["preempted", "timeout", "node-fail", None])
def test_what_the_cluster_does_costs_nothing_while_the_run_gets_on(
    make_run: MakeRun, attempt: Callable[..., None], reason: str | None
) -> None:
    run = make_run()
    for number in range(20):
        attempt(run, reason, start=number * 10, saved=number * 10 + 10)
    assert decision(run).again


@pytest.mark.parametrize("reason", ["crash", "hang"])
def test_crashes_are_few(make_run: MakeRun, attempt: Callable[..., None], reason: str) -> None:
    run = make_run("deit_s12", "cluster.max_crashes=2")
    attempt(run, reason, saved=10)
    assert decision(run).again
    attempt(run, reason, start=10, saved=20)
    assert not decision(run).again
    assert "crashed 2 times" in decision(run).why


def test_a_crash_while_slurm_was_ending_the_job_is_not_the_run_s_own(
    make_run: MakeRun, attempt: Callable[..., None]
) -> None:
    """Ranks of the other nodes lose their connection before anybody knows of the node."""
    run = make_run("deit_s12", "cluster.max_crashes=1")
    attempt(run, "crash", saved=10)
    append_event(run.jobs_path, EventKind.ended, job_id="1", code=1, attempt=1, state="COMPLETING")
    assert decision(run).again


def test_attempts_that_save_nothing_new_come_to_an_end(
    make_run: MakeRun, attempt: Callable[..., None]
) -> None:
    run = make_run("deit_s12", "cluster.max_without_progress=3")
    attempt(run, "preempted", saved=10)
    for _ in range(2):
        attempt(run, "preempted", start=10)
    assert decision(run).again
    attempt(run, "preempted", start=10)
    said = "3 starts in a row saved no new checkpoint (cluster.max_without_progress)"
    assert decision(run).why == said


def test_progress_after_a_bad_spell_counts(make_run: MakeRun, attempt: Callable[..., None]) -> None:
    run = make_run("deit_s12", "cluster.max_without_progress=3")
    for _ in range(2):
        attempt(run, "timeout")
    attempt(run, "timeout", saved=10)
    assert decision(run).again


def test_jobs_that_get_to_no_attempt_count_as_no_progress(make_run: MakeRun) -> None:
    run = make_run("deit_s12", "cluster.max_without_progress=2")
    append_event(run.jobs_path, EventKind.ended, job_id="1", code=1, attempt=None, state="RUNNING")
    assert decision(run).again
    append_event(run.jobs_path, EventKind.ended, job_id="1", code=1, attempt=None, state="RUNNING")
    assert not decision(run).again


def test_what_a_person_must_mend_is_not_tried_again(
    make_run: MakeRun, attempt: Callable[..., None]
) -> None:
    refused, full = make_run(), make_run(seed=1)
    append_event(
        refused.jobs_path, EventKind.ended, job_id="1", code=2, attempt=None, state="RUNNING"
    )
    attempt(full, "disk-full", saved=10)
    assert not decision(refused).again
    assert not decision(full).again


def test_retry_starts_the_budgets_afresh(make_run: MakeRun, attempt: Callable[..., None]) -> None:
    run = make_run("deit_s12", "cluster.max_crashes=1")
    attempt(run, "crash", saved=10)
    assert not decision(run).again
    retry(run)
    assert decision(run).again
    attempt(run, "crash", start=10, saved=20)
    assert not decision(run).again


@pytest.mark.parametrize("ahead_s", [-3600, 3600])
def test_budgets_do_not_depend_on_the_clocks_of_nodes(
    make_run: MakeRun, begin_attempt: BeginAttempt, ahead_s: float
) -> None:
    run = make_run("deit_s12", "cluster.max_crashes=1", "cluster.max_without_progress=2")
    node_time = round(time.time() + ahead_s, 3)

    def crash() -> None:
        number = begin_attempt(run, "1", time=node_time)
        end = {"attempt": number, "event": "end", "reason": "crash", "time": node_time}
        journal.append(run.attempts_path, end)

    def refuse() -> None:
        ended = {"job_id": "1", "code": 1, "state": "RUNNING", "time": node_time}
        append_event(run.jobs_path, EventKind.ended, **ended)

    for spend in (crash, refuse, refuse), (refuse, refuse), (crash,):
        for one in spend:
            one()
        assert not decision(run).again
        retry(run)
        assert decision(run).again


def test_a_retry_that_an_old_version_recorded_counts_by_its_time(
    make_run: MakeRun, begin_attempt: BeginAttempt
) -> None:
    run = make_run("deit_s12", "cluster.max_crashes=1")
    for time_s in (1000.0, 2000.0):
        number = begin_attempt(run, "1", time=time_s)
        end = {"attempt": number, "event": "end", "reason": "crash", "time": time_s + 10}
        journal.append(run.attempts_path, end)
    append_event(run.jobs_path, EventKind.retry, time=1500.0)
    assert not decision(run).again
    append_event(run.jobs_path, EventKind.retry, time=2500.0)
    assert decision(run).again


def test_jobs_that_end_without_a_word_count_as_no_progress(make_run: MakeRun) -> None:
    """In a line of setup, say; those that a person cancelled do not."""
    run = make_run("deit_s12", "cluster.max_without_progress=2")
    for job_id in ("1", "2"):
        append_event(run.jobs_path, EventKind.submitted, job_id=job_id)
    append_event(run.jobs_path, EventKind.cancelled)
    # the second time as it is found in the queue
    for _ in range(2):
        append_event(run.jobs_path, EventKind.submitted, job_id="3")
    assert decision(run).again
    append_event(run.jobs_path, EventKind.submitted, job_id="4")
    assert not decision(run).again
    append_event(run.jobs_path, EventKind.ended, job_id="4", code=1, attempt=1, state="RUNNING")
    assert decision(run).again
