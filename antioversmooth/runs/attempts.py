"""Attempts of a run: its starts, as attempts.jsonl records them, and which of their steps count.

{"time", "attempt", "event": "start", "step", ...}              it continues after this step
{"time", "attempt", "event": "end", "reason", "step", ...}      the last one of an attempt counts
{"time", "attempt", "event": "torn-checkpoint", ...}            anything else is a note

An attempt that starts at step s takes over the run from there. Records and checkpoints of later
steps that earlier attempts have written, or still write, do not belong to the run any more: their
process may live although its scheduler gave it up for dead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

from antioversmooth.runs import journal
from antioversmooth.runs.journal import Record


class EndReason(Enum):
    """Why an attempt ended."""

    completed = "completed"
    preempted = "preempted"
    timeout = "timeout"
    crash = "crash"
    hang = "hang"
    out_of_memory = "out-of-memory"
    node_fail = "node-fail"
    disk_full = "disk-full"
    cancelled = "cancelled"


CORRUPT_IMAGE = "corrupt-image"
"""Event of an image that could not be read."""

RESUMABLE = frozenset({EndReason.preempted, EndReason.timeout, EndReason.cancelled})
"""Reasons of attempts that saved a checkpoint before they ended."""


@dataclass(frozen=True)
class Attempt:
    """One start of a run."""

    number: int
    """From 1."""
    step: int
    """Steps of the run that were done when it started."""
    started: float
    """Seconds since 1970, as all times here."""
    last_seen: float
    """Time of its newest record."""
    ended: float | None = None
    """None while it runs, and where it was killed and nobody has recorded its end."""
    reason: EndReason | None = None
    message: str = ""
    end_step: int | None = None
    start: Record = field(default_factory=dict)
    """The start record: host, pid, commit, snapshot (id of the code that ran), packages, ..."""
    notes: tuple[Record, ...] = ()
    """Its other records, such as torn checkpoints and images that could not be read."""

    @property
    def job_id(self) -> str | None:
        """Id of the SLURM job that it ran in."""
        job_id = self.start.get("job_id")
        return None if job_id is None else str(job_id)

    @property
    def turn(self) -> int:
        """Number of times that its job had been requeued before."""
        return int(self.start.get("turn", 0))

    @property
    def world_size(self) -> int:
        return int(self.start.get("world_size", 1))

    @property
    def host(self) -> str | None:
        host = self.start.get("host")
        return None if host is None else str(host)

    @property
    def device_type(self) -> str | None:
        """cuda or cpu; None in records of old versions."""
        return self.start.get("device_type")

    @property
    def seconds(self) -> float:
        """Wall time; of an attempt without an end until its newest record."""
        return max(0.0, (self.last_seen if self.ended is None else self.ended) - self.started)

    @property
    def device_seconds(self) -> float:
        return self.seconds * self.world_size


def read_attempts(path: Path) -> list[Attempt]:
    """Attempts in the order of their numbers; lines that are no records of attempts are ignored."""
    return parse_attempts(journal.read(path))


def parse_attempts(records: Iterable[Record]) -> list[Attempt]:
    """Attempts of the records of attempts.jsonl."""
    starts: dict[int, Record] = {}
    ends: dict[int, Record] = {}
    notes: dict[int, list[Record]] = {}
    for record in filter(_is_valid, records):
        number = record["attempt"]
        if record["event"] == "start":
            starts.setdefault(number, record)
        elif record["event"] == "end":
            ends[number] = record
        else:
            notes.setdefault(number, []).append(record)
    return [
        _attempt(start, ends.get(number), notes.get(number, []))
        for number, start in sorted(starts.items())
    ]


def _attempt(start: Record, end: Record | None, notes: list[Record]) -> Attempt:
    end = end or {}
    return Attempt(
        number=start["attempt"],
        step=start["step"],
        started=start["time"],
        last_seen=max(record["time"] for record in (start, *notes)),
        ended=end.get("time"),
        reason=EndReason(end["reason"]) if end else None,
        message=str(end.get("message") or ""),
        end_step=end.get("step"),
        start=start,
        notes=tuple(notes),
    )


_REASONS = {reason.value for reason in EndReason}


def _is_valid(record: Record) -> bool:
    event, reason = record.get("event"), record.get("reason")
    if type(record.get("attempt")) is not int or "time" not in record or not isinstance(event, str):
        return False
    if event == "start":
        world_size = record.get("world_size", 1)
        numbers = (record.get("step"), world_size, record.get("turn", 0))
        return all(type(number) is int for number in numbers) and 0 < world_size < 2**31
    return event != "end" or (isinstance(reason, str) and reason in _REASONS)


def write_end(
    path: Path,
    attempt: int,
    reason: EndReason,
    *,
    step: int,
    message: str = "",
    ended: float | None = None,
) -> None:
    """Appends the end of an attempt to attempts.jsonl.

    Args:
        step: Steps of the run that are done.
        message: For people.
        ended: When it ended, where another process records it: its last sign of life; default: now.
    """
    end = {"attempt": attempt, "event": "end", "reason": reason.value, "step": step}
    at = {} if ended is None else {"time": round(ended, 3)}
    journal.append(path, {**at, **end, **({"message": message} if message else {})})


def extend_last_seen(
    attempts: Sequence[Attempt], metrics: Iterable[Record], heartbeat: float | None = None
) -> list[Attempt]:
    """The attempts, last seen at their last sign of life.

    That is their newest record of attempts or metrics, and of the newest attempt the heartbeat.

    Args:
        metrics: All records of metrics.jsonl, superseded ones too.
        heartbeat: Time of the newest heartbeat.
    """
    newest = {attempts[-1].number: heartbeat} if attempts and heartbeat is not None else {}
    for record in metrics:
        if "attempt" in record and "time" in record:
            number = record["attempt"]
            newest[number] = max(newest.get(number, 0.0), record["time"])
    return [
        replace(attempt, last_seen=max(attempt.last_seen, newest.get(attempt.number, 0.0)))
        for attempt in attempts
    ]


def superseded_after(attempts: Iterable[Attempt]) -> dict[int, float]:
    """Last step that counts of each attempt, by its number: where the earliest later one began."""
    limit: dict[int, float] = {}
    lowest = float("inf")
    for attempt in sorted(attempts, key=lambda attempt: attempt.number, reverse=True):
        limit[attempt.number] = lowest
        lowest = min(lowest, attempt.step)
    return limit


def in_lineage(records: Iterable[Record], attempts: Iterable[Attempt]) -> list[Record]:
    """The records whose step no later attempt has superseded."""
    limit = superseded_after(attempts)
    if all(last == float("inf") for last in limit.values()):
        return list(records)
    return [r for r in records if r.get("step", 0) <= limit.get(r.get("attempt", 0), float("inf"))]
