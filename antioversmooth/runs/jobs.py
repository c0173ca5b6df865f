"""jobs.jsonl: what was asked of SLURM for a run, and how its jobs ended; one line an event.

{"time", "event": "submitted", "job_id", "user"}
                                               a job was submitted, or found in the queue; it is
                                               this user's
{"time", "event": "ended", "job_id", "code", "state", "log_size", "attempt"}
                                               the batch script saw the processes of a job end;
                                               without an attempt where none began, and then with
                                               "reason" and "message" where SLURM's log gives them,
                                               or "message" where `cluster.setup` ended the job
{"time", "event": "cancelled", "attempt"}      a person wants no job for this run; with the number
                                               of the attempt that it ends, if one runs
{"time", "event": "waiting", "message"}        the run is to get a job as soon as what it waits for
                                               allows one
{"time", "event": "unanswered"}                sbatch did not say whether it submitted a job
{"time", "event": "retry", "attempt"}          a person grants the run new retry budgets, for what
                                               comes after this line and this attempt (0: none)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from antioversmooth.runs import journal
from antioversmooth.runs.attempts import Attempt, EndReason
from antioversmooth.runs.journal import Record


class EventKind(Enum):
    """The kinds of events."""

    submitted = "submitted"
    ended = "ended"
    cancelled = "cancelled"
    waiting = "waiting"
    unanswered = "unanswered"
    retry = "retry"


@dataclass(frozen=True)
class JobEvent:
    """One event; fields that its kind does not have are empty."""

    time: float
    """Seconds since 1970."""
    kind: EventKind
    job_id: str = ""
    user: str = ""
    """The user whose job it is; empty in records of old versions."""
    code: int | None = None
    """Exit code of the job's processes."""
    state: str = ""
    """State of the job in SLURM's word, when its processes ended."""
    log_size: int = 0
    """Bytes of the job's log by then."""
    attempt: int | None = None
    """Number of the attempt that ended, that is to end, or (of a retry) that is the newest; None
    where the job began none."""
    reason: EndReason | None = None
    message: str = ""


_REQUIRED: dict[EventKind, set[str]] = {
    EventKind.submitted: {"job_id"},
    EventKind.ended: {"job_id", "code", "state"},
    EventKind.cancelled: set(),
    EventKind.waiting: {"message"},
    EventKind.unanswered: set(),
    EventKind.retry: set(),
}
_KINDS = {kind.value for kind in EventKind}
_REASONS = {reason.value for reason in EndReason}


def append_event(path: Path, kind: EventKind, **facts: Any) -> None:
    """Appends an event to jobs.jsonl, without facts that are None."""
    known = {key: value for key, value in facts.items() if value is not None}
    journal.append(path, {"event": kind.value, **known})


def read_events(path: Path) -> list[JobEvent]:
    """All events, oldest first; lines that are no events are ignored."""
    return [_event(record) for record in journal.read(path) if _is_valid(record)]


def _is_valid(record: Record) -> bool:
    name = record.get("event")
    if not isinstance(name, str) or name not in _KINDS or "time" not in record:
        return False
    return _REQUIRED[EventKind(name)] <= record.keys()


def _event(record: Record) -> JobEvent:
    code, size, reason = record.get("code"), record.get("log_size"), record.get("reason")
    return JobEvent(
        time=record["time"],
        kind=EventKind(record["event"]),
        job_id=str(record.get("job_id", "")),
        user=str(record.get("user", "")),
        code=code if type(code) is int else None,
        state=str(record.get("state", "")),
        log_size=size if type(size) is int else 0,
        attempt=number if type(number := record.get("attempt")) is int else None,
        reason=EndReason(reason) if isinstance(reason, str) and reason in _REASONS else None,
        message=str(record.get("message", "")),
    )


def job_ids(events: Iterable[JobEvent], attempts: Iterable[Attempt]) -> list[str]:
    """Ids of a run's jobs, the one that was seen last first, as far as the run directory knows.

    Seen means submitted, found in the queue, or started.
    """
    submitted = [(e.time, e.job_id) for e in events if e.kind is EventKind.submitted]
    started = [(a.started, a.job_id) for a in attempts if a.job_id]
    # of equal times the later record
    newest_first = sorted([*submitted, *started], key=lambda seen: seen[0])[::-1]
    return list(dict.fromkeys(job_id for _, job_id in newest_first))


def is_cancelled(events: Iterable[JobEvent]) -> bool:
    """Whether a person cancelled the run and nobody has asked for it since."""
    asked = (EventKind.submitted, EventKind.waiting)
    kinds = [e.kind for e in events if e.kind in (*asked, EventKind.cancelled)]
    return kinds[-1:] == [EventKind.cancelled]


def waiting_reason(events: Iterable[JobEvent], attempts: Iterable[Attempt]) -> str:
    """Why a run that was asked for has no job yet; empty where nothing has to submit it."""
    newest = [event for event in events if event.kind is not EventKind.retry][-1:]
    is_waiting = newest and newest[0].kind is EventKind.waiting
    if not is_waiting or any(attempt.started > newest[0].time for attempt in attempts):
        return ""
    return newest[0].message


def is_unanswered(events: Iterable[JobEvent]) -> bool:
    """Whether the run may have a job whose id nobody knows."""
    kinds = [e.kind for e in events if e.kind in (EventKind.submitted, EventKind.unanswered)]
    return kinds[-1:] == [EventKind.unanswered]


def mark_cancelled(attempts: Sequence[Attempt], events: Iterable[JobEvent]) -> list[Attempt]:
    """The attempts; those that a person's cancellation ended have that as their reason.

    The ranks cannot tell its signal from that of a preemption, and the batch script may not live
    long enough to correct them.
    """
    cancelled = {e.attempt for e in events if e.kind is EventKind.cancelled}
    return [
        replace(
            attempt,
            reason=EndReason.cancelled,
            message=f"cancelled after step {attempt.end_step}",
        )
        if attempt.number in cancelled and attempt.reason is EndReason.preempted
        else attempt
        for attempt in attempts
    ]
