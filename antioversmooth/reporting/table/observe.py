"""A run as tables and trackers show it: the edge between its directory and everything rendered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from antioversmooth.runs import Run
from antioversmooth.runs.attempts import Attempt
from antioversmooth.runs.code import PACKAGES
from antioversmooth.runs.journal import Record
from antioversmooth.runs.record import RunRecord, read_mapping
from antioversmooth.runs.status import RunState


@dataclass(frozen=True)
class Observation:
    """A run at the moment it was looked at."""

    record: RunRecord
    state: RunState
    """By its directory alone: no scheduler is asked."""
    problem: str = ""
    """Why it failed or stopped; empty where nothing is wrong."""
    result: dict[str, Any] | None = None
    """`result.json`; None unless done."""
    attempts: list[Attempt] = field(default_factory=list)
    epochs: list[Record] = field(default_factory=list)
    """One record for each finished epoch of the run: those that hold the accuracy after it."""
    older: list[str] = field(default_factory=list)
    """Directories of other identities of the same experiment and seed."""
    provenance: dict[str, Any] | None = None
    """Code, machines, jobs and packages over all attempts; None before the first."""

    @property
    def run(self) -> Run:
        return self.record.run

    @property
    def epoch(self) -> int:
        """Finished epochs."""
        return int(self.epochs[-1]["epoch"]) if self.epochs else 0


def observe(run: Run, *, now: float | None = None, keep_metrics: bool = False) -> Observation:
    """Reads a run directory.

    Args:
        now: Seconds since 1970, to tell a living heartbeat from a dead one; default: the clock.
        keep_metrics: Whether all metrics will be asked for, as by a tracker.
    """
    record = RunRecord.read(run, now=now, keep_metrics=keep_metrics)
    return Observation(
        record=record,
        state=record.status.state,
        problem=_describe_problem(record),
        result=record.result,
        attempts=record.attempts,
        epochs=record.epochs,
        older=record.siblings,
        provenance=_provenance(record) if record.attempts else None,
    )


def _describe_problem(record: RunRecord) -> str:
    """Why the run failed, stopped or is stale; empty where nothing is wrong."""
    status = record.status
    if status.reason is not None:
        newest = record.attempts[-1]
        message = f" ({newest.message})" if newest.message else ""
        return f"attempt {newest.number} ended: {status.reason.value}{message}"
    # a table is committed: no paths of this machine
    return status.detail.replace(f"{record.run.dir}/", "")


IMPORTED = "imported.json"
"""In the directory of a run that came out of a bundle: from which, and the checksums of its
files."""


def _provenance(record: RunRecord) -> dict[str, Any]:
    packages = record.provenance.get("packages")
    packages = packages if isinstance(packages, dict) else {}
    return {
        "commits": _distinct(record.attempts, "commit"),
        "uncommitted_changes": bool(record.intent.get("dirty", False)),
        "snapshots": _distinct(record.attempts, "snapshot"),
        "backend": record.intent.get("backend"),
        "hosts": _distinct(record.attempts, "host"),
        "job_ids": _distinct(record.attempts, "job_id"),
        "python": record.provenance.get("python"),
        "packages": {name: packages[name] for name in packages if name.lower() in PACKAGES},
        "ends": [attempt.reason.value for attempt in record.attempts if attempt.reason],
        **_imported(record.run),
    }


def _imported(run: Run) -> dict[str, str]:
    """The bundle that a run came from, where it did not run here."""
    origin = read_mapping(run.dir / IMPORTED)
    if not origin:
        return {}
    return {"imported": f"{origin.get('bundle')}, sha256 {str(origin.get('sha256'))[:12]}"}


def imported_files(run: Run) -> dict[str, str]:
    """Checksums of the files of a run as they came out of a bundle; empty where it did not."""
    recorded = read_mapping(run.dir / IMPORTED).get("files")
    if not isinstance(recorded, dict):
        return {}
    return {str(name): str(checksum) for name, checksum in recorded.items()}


def _distinct(attempts: Sequence[Attempt], key: str) -> list[str]:
    """Values of a field of the start records, each once, in order."""
    values = (attempt.start.get(key) for attempt in attempts)
    return list(dict.fromkeys(str(value) for value in values if value is not None))
