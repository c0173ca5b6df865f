"""What a run directory says of its run, read once: the edge between the disk and everything that is
rendered."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from antioversmooth import files, runs
from antioversmooth.errors import ResultError
from antioversmooth.runs import Run, RunState, journal
from antioversmooth.runs.journal import EndReason, Record
from antioversmooth.runs.metrics import EPOCH_SECONDS, VAL_TOP1


class State(Enum):
    """How far a run is, for readers of a table: `runs.RunState`, told apart by how it ended and
    what ran before it."""

    done = "done"
    running = "running"
    submitted = "submitted"
    stopped = "stopped"
    """Ended early; launching again resumes it."""
    failed = "failed"
    """Ended for a reason that does not mend itself, or its result cannot be trusted."""
    stale = "stale"
    """Never started, but a run of the same experiment and seed with another identity exists."""
    missing = "missing"


FAILURES = {
    r.value for r in (EndReason.crash, EndReason.hang, EndReason.out_of_memory, EndReason.disk_full)
}


@dataclass(frozen=True)
class Observation:
    """A run at the moment it was looked at."""

    run: Run
    state: State
    problem: str = ""
    """Why it failed or stopped; empty where nothing is wrong."""
    result: dict[str, Any] | None = None
    """`result.json`; None unless done."""
    attempts: list[Record] = field(default_factory=list)
    """Start and end records."""
    epochs: list[Record] = field(default_factory=list)
    """One record for each finished epoch of the run: those that hold the accuracy after it."""
    older: list[str] = field(default_factory=list)
    """Directories of other identities of the same experiment and seed."""
    provenance: dict[str, Any] | None = None
    """Code, machines, jobs and packages over all attempts; None before the first."""

    @property
    def epoch(self) -> int:
        """Finished epochs."""
        return int(self.epochs[-1]["epoch"]) if self.epochs else 0

    @property
    def top1(self) -> float | None:
        """Accuracy after the newest finished epoch, in percent."""
        return float(self.epochs[-1][VAL_TOP1]) if self.epochs else None

    @property
    def num_attempts(self) -> int:
        """Times that the run was started."""
        return len({r["attempt"] for r in self.attempts})

    @property
    def remaining_s(self) -> float | None:
        """Seconds until a running run is done, at the pace of its last epoch; None where that is
        not known."""
        if (
            self.state is not State.running
            or not self.epochs
            or EPOCH_SECONDS not in self.epochs[-1]
        ):
            return None
        return float(self.epochs[-1][EPOCH_SECONDS]) * (
            self.run.experiment.recipe.epochs - self.epoch
        )


def observe(run: Run, *, now: float | None = None) -> Observation:
    """Reads a run directory.

    Args:
        now: Seconds since 1970, to tell a living heartbeat from a dead one; default: the clock.
    """
    attempts = run.attempts()
    try:
        result, problem = run.result(), ""
    except ResultError as err:
        # a table is committed: no paths of this machine
        result, problem = None, str(err).replace(f"{run.dir}/", "")
    older = runs.sibling_runs(run)
    epochs = _epochs(run, attempts)
    if result is not None and (problem := _contradiction(result, epochs)):
        result = None
    if problem:
        state = State.failed
    elif result is not None:
        state = State.done
    else:
        state, problem = _unfinished(run, attempts, bool(older), now)
    origin = _provenance(run, attempts) if attempts else None
    return Observation(run, state, problem, result, attempts, epochs, older, origin)


def _contradiction(result: dict[str, Any], epochs: list[Record]) -> str:
    """What the result says otherwise than the journal; empty where there is nothing. `verify`
    compares all of it."""
    said, journaled = (
        result["metrics"].get(VAL_TOP1),
        epochs[-1][VAL_TOP1] if epochs else None,
    )
    if journaled is None or said == journaled:
        return ""
    return (
        f"result.json says {said} % top-1, metrics.jsonl {journaled} %; whoever edited one of them"
        " knows which is right"
    )


def _unfinished(
    run: Run, attempts: list[Record], has_older: bool, now: float | None
) -> tuple[State, str]:
    state = runs.state(run, now=now)
    if state is RunState.stopped:
        return _stopped(attempts)
    if state is RunState.missing and has_older:
        return State.stale, runs.explain_identity_change(run)
    return State(state.value), ""


def _stopped(attempts: list[Record]) -> tuple[State, str]:
    """Failed or stopped, and why, from the end of the newest attempt."""
    newest = max(r["attempt"] for r in attempts)
    ends = [r for r in attempts if r["attempt"] == newest and r.get("event") == "end"]
    if not ends:
        return State.stopped, f"attempt {newest} vanished without an end record"
    reason = str(ends[-1].get("reason", ""))
    said = ends[-1].get("message")
    problem = f"attempt {newest} ended: {reason}" + (f" ({said})" if said else "")
    return (State.failed if reason in FAILURES else State.stopped), problem


def _epochs(run: Run, attempts: list[Record]) -> list[Record]:
    records = journal.read(run.metrics_path, holding=VAL_TOP1)
    scores = [
        r
        for r in records
        if type(r.get("epoch")) is int and type(r.get(VAL_TOP1)) in journal.NUMBERS
    ]
    return journal.in_lineage(scores, journal.superseded_after(attempts))


IMPORTED = "imported.json"
"""In the directory of a run that came out of a bundle: from which, and the checksums of its
files."""

PACKAGES = {"torch", "torchvision", "timm", "numpy", "pillow", "simplejpeg"}
"""Those whose version can move a number; `provenance.json` has all."""


def _provenance(run: Run, attempts: list[Record]) -> dict[str, Any]:
    intent, recorded = _mapping(run.dir / "intent.json"), _mapping(run.dir / "provenance.json")
    packages = recorded.get("packages")
    starts = [r for r in attempts if r.get("event") == "start"]
    return {
        "commits": _distinct(starts, "commit"),
        "uncommitted_changes": bool(intent.get("dirty", False)),
        "snapshots": _distinct(starts, "snapshot"),
        "backend": intent.get("backend"),
        "hosts": _distinct(starts, "host"),
        "job_ids": _distinct(starts, "job_id"),
        "python": recorded.get("python"),
        "packages": (
            {k: v for k, v in packages.items() if k.lower() in PACKAGES}
            if isinstance(packages, dict)
            else {}
        ),
        "ends": [str(r["reason"]) for r in attempts if r.get("event") == "end" and "reason" in r],
        **_imported(run),
    }


def _imported(run: Run) -> dict[str, str]:
    """From which bundle a run came, where it did not run here."""
    origin = _mapping(run.dir / IMPORTED)
    return (
        {"imported": f"{origin.get('bundle')}, sha256 {str(origin.get('sha256'))[:12]}"}
        if origin
        else {}
    )


def imported_files(run: Run) -> dict[str, str]:
    """Checksums of the files of a run as they came out of a bundle; empty where it did not."""
    noted = _mapping(run.dir / IMPORTED).get("files")
    return (
        {str(name): str(checksum) for name, checksum in noted.items()}
        if isinstance(noted, dict)
        else {}
    )


def _mapping(path: Path) -> dict[str, Any]:
    """A JSON file's mapping; empty where there is none, or none that can be read: no number depends
    on it."""
    try:
        value = files.read_json(path)
    except (ValueError, OSError):
        return {}
    return value if isinstance(value, dict) else {}


def _distinct(records: list[Record], key: str) -> list[str]:
    return list(dict.fromkeys(str(r[key]) for r in records if r.get(key) is not None))
