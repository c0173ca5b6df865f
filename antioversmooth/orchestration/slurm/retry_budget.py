"""Whether a run that did not complete may be started again: budgets by reason.

Preemptions, time limits and node failures cost nothing as long as the run makes progress. Crashes
are few. A run that a person has to fix first (no space left, a wrong path) is not tried again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from antioversmooth.orchestration.notify.events import Event
from antioversmooth.orchestration.slurm.client import RUNNING
from antioversmooth.runs.attempts import Attempt, EndReason
from antioversmooth.runs.jobs import EventKind, JobEvent
from antioversmooth.runs.record import RunRecord

USER_ERROR = 2
"""Exit code of a process that cannot run until a person fixes something."""

_CRASHES = {EndReason.crash, EndReason.hang, EndReason.out_of_memory}


@dataclass(frozen=True)
class RetryDecision:
    """Whether to start a run again, and why or why not."""

    again: bool
    why: str
    """For people."""
    event: Event | None = None
    """The end that a person is notified of; None where it is not final."""


def retry_decision(record: RunRecord) -> RetryDecision:
    """Whether this run may be started again by itself, after all since the newest `retry`."""
    attempts, history = _counted(record)
    ended_jobs = [event for event in history if event.kind is EventKind.ended]
    ended = [attempt for attempt in attempts if attempt.ended is not None]
    if ended and ended[-1].reason is EndReason.disk_full:
        full = "no space left for its files: a full disk, a quota, or a limit on the size of files"
        return RetryDecision(False, full, Event.run_failed)
    if ended_jobs and ended_jobs[-1].code == USER_ERROR:
        refused = "it cannot start until a person fixes the cause"
        return RetryDecision(False, refused, Event.run_failed)
    cluster, crashes = record.run.experiment.cluster, _count_crashes(ended, ended_jobs)
    if crashes >= cluster.max_crashes:
        how_often = "once" if crashes == 1 else f"{crashes} times"
        crashed = f"it crashed {how_often} (cluster.max_crashes)"
        return RetryDecision(False, crashed, Event.run_given_up)
    fruitless = (
        attempts_without_progress(record, attempts)
        + jobs_without_attempt(ended_jobs)
        + silent_jobs(history, record.attempts)
    )
    if fruitless >= cluster.max_without_progress:
        starts = "1 start" if fruitless == 1 else f"{fruitless} starts in a row"
        saved_none = f"{starts} saved no new checkpoint (cluster.max_without_progress)"
        return RetryDecision(False, saved_none, Event.run_given_up)
    return RetryDecision(True, f"{len(ended)} attempts so far, {crashes} of them crashed")


def _counted(record: RunRecord) -> tuple[list[Attempt], list[JobEvent]]:
    """Attempts and events since a person granted the budgets that count now.

    By numbers and by lines, not by times: the login node and the nodes have clocks of their own.
    """
    kinds = [event.kind for event in record.events]
    if EventKind.retry not in kinds:
        return record.attempts, record.events
    at = len(kinds) - 1 - kinds[::-1].index(EventKind.retry)
    granted, history = record.events[at], record.events[at + 1 :]
    if granted.attempt is None:
        # written by an old version
        return [a for a in record.attempts if a.started > granted.time], history
    return [a for a in record.attempts if a.number > granted.attempt], history


def failed_starts(record: RunRecord) -> int:
    """Number of the newest starts in a row that have ended without a new checkpoint."""
    attempts, history = _counted(record)
    ended_jobs = [event for event in history if event.kind is EventKind.ended]
    ended = [attempt for attempt in attempts if attempt.ended is not None]
    return attempts_without_progress(record, ended) + jobs_without_attempt(ended_jobs)


def _count_crashes(ended: Sequence[Attempt], ended_jobs: Sequence[JobEvent]) -> int:
    """Crashes by a fault of the run.

    Ranks that lose the others crash, too, but not by a fault of theirs where SLURM was ending the
    job: a node was lost.
    """
    excused = {event.attempt for event in ended_jobs if event.state != RUNNING}
    return sum(a.reason in _CRASHES and a.number not in excused for a in ended)


def attempts_without_progress(record: RunRecord, started: Sequence[Attempt]) -> int:
    """Number of the newest attempts in a row that led to no new checkpoint.

    Args:
        started: Attempts that count.
    """
    if not started:
        return 0
    saved = [c.step for c in record.all_checkpoints if c.attempt == started[-1].number]
    reached = [*(attempt.step for attempt in started[1:]), max(saved, default=0)]
    pairs = zip(reversed(started), reversed(reached), strict=True)
    return sum(1 for _ in takewhile(lambda pair: pair[1] <= pair[0].step, pairs))


def jobs_without_attempt(ended_jobs: Sequence[JobEvent]) -> int:
    """Number of the newest jobs in a row whose processes ended before they began an attempt."""
    return sum(1 for _ in takewhile(lambda event: event.attempt is None, reversed(ended_jobs)))


def silent_jobs(history: Sequence[JobEvent], attempts: Sequence[Attempt]) -> int:
    """Number of the newest jobs in a row without a trace: a broken node or `cluster.setup`."""
    heard = {attempt.job_id for attempt in attempts}
    heard |= {event.job_id for event in history if event.kind is EventKind.ended}
    since_cancel = takewhile(lambda e: e.kind is not EventKind.cancelled, reversed(history))
    submitted = (e.job_id for e in since_cancel if e.kind is EventKind.submitted)
    # a job that was found in the queue is recorded again
    jobs = dict.fromkeys(submitted)
    return sum(1 for _ in takewhile(lambda job_id: job_id not in heard, jobs))
