"""jobs.jsonl: what was asked of SLURM for a run and what came of it, one line an event.

{"time", "event": "submitted", "job_id"}                a job was handed to SLURM, or found there
{"time", "event": "ended", "job_id", "code", "attempt", "state", "log_size"}  the batch script saw its processes end;
                                   where they got to no attempt, without one, and with SLURM's
                                   "reason" and "message"
{"time", "event": "cancelled"}                          a person wants no job for this run
{"time", "event": "retry"}                              a person grants the run a fresh start of its budgets
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from antioversmooth.errors import LaunchError
from antioversmooth.runs import Run, journal
from antioversmooth.runs.journal import EndReason, Record
from antioversmooth.runs.lock import try_lock


def note(run: Run, event: str, **facts: Any) -> None:
    """Adds an event; facts that are None are left out."""
    known = {key: value for key, value in facts.items() if value is not None}
    journal.append(run.dir / "jobs.jsonl", {"event": event, **known})


_FACTS: dict[str, set[str]] = {
    "submitted": {"job_id"},
    "ended": {"job_id", "code", "state"},
    "cancelled": set(),
    "retry": set(),
}
"""What each event says beside its time."""


def events(run: Run) -> list[Record]:
    """All events, oldest first; what is none is left out, as a torn line is."""
    found = [
        r
        for r in journal.read(run.dir / "jobs.jsonl")
        if isinstance(r.get("event"), str) and "time" in r
    ]
    return [r for r in found if r["event"] in _FACTS and _FACTS[r["event"]] <= r.keys()]


def newest_job(run: Run) -> str | None:
    """Id of the job that was submitted last, as far as the directory knows."""
    told = [r for r in events(run) if r["event"] == "submitted"]
    seen = [r for r in run.attempts() if r.get("job_id")]
    newest = max([*told, *seen], key=lambda r: r["time"], default=None)
    return str(newest["job_id"]) if newest else None


def is_cancelled(run: Run) -> bool:
    """Whether a person cancelled the run and nobody submitted it since."""
    decisive = [r["event"] for r in events(run) if r["event"] in ("submitted", "cancelled")]
    return decisive[-1:] == ["cancelled"]


def attempts(run: Run) -> list[Record]:
    """Records of the run's attempts, as a person means them: those that a `cancel` ended are
    cancelled.

    The ranks cannot tell its signal from that of a pre-emption, and the batch script may not live
    to say it for them.
    """
    records = run.attempts()
    for cancelled in (r["time"] for r in events(run) if r["event"] == "cancelled"):
        begun = [r["attempt"] for r in records if r["event"] == "start" and r["time"] <= cancelled]
        records = [
            _cancelled(r) if r["attempt"] in begun[-1:] and r["time"] >= cancelled else r
            for r in records
        ]
    return records


def _cancelled(record: Record) -> Record:
    told = EndReason.preempted.value
    if record.get("reason") != told:
        return record
    message = str(record.get("message", "")).replace(told, EndReason.cancelled.value, 1)
    return {**record, "reason": EndReason.cancelled.value, "message": message}


LOCK_PATIENCE_S = 120.0
"""How long a launcher waits for others that submit the same run. One sbatch takes a second, on a
busy cluster ten."""


@contextmanager
def submission_lock(run: Run) -> Iterator[int]:
    """Holds the right to start this run; waits while another launcher has it.

    Yields:
        The file descriptor that holds the lock. An sbatch that inherits it keeps it when its
        launcher is killed, so that the next launcher looks into the queue only when that sbatch is
        through.

    Raises:
        LaunchError: The lock is not given back, as by a local back end that trains this run.
    """
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while (descriptor := try_lock(run.dir)) is None:
        if time.monotonic() > deadline:
            raise LaunchError(
                f"{run.name} is held by another launcher, which may be training it: {run.dir}"
            )
        time.sleep(0.05)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
