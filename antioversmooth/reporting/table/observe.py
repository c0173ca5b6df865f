"""A run as tables and trackers show it: the edge between its directory and everything rendered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from antioversmooth.files import read_mapping
from antioversmooth.runs import Run
from antioversmooth.runs.attempts import Attempt
from antioversmooth.runs.code import PACKAGES
from antioversmooth.runs.directory import IMPORTED
from antioversmooth.runs.journal import Record
from antioversmooth.runs.record import RunRecord
from antioversmooth.runs.siblings import RowFolders
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
    versions: dict[str, list[str]] = field(default_factory=dict)
    """Those that attempts ran with, each once, by package; also of Python and CUDA."""
    row: str = ""
    """Name of the row of a table that shows it; empty: that of its spec."""

    @property
    def run(self) -> Run:
        return self.record.run

    @property
    def name(self) -> str:
        """As `Run.name`, with the name that its row has in the table."""
        return f"{self.row} seed {self.run.seed}" if self.row else self.run.name

    @property
    def devices(self) -> list[str]:
        """Those that its attempts ran on, each once; the result's where no attempt says it."""
        recorded = distinct(self.attempts, "device")
        return recorded or [self.result["device"]] if self.result else recorded

    @property
    def lacks_versions(self) -> bool:
        """Whether nothing recorded the versions that an attempt before the newest ran with."""
        return not all(attempt.start.get("packages") for attempt in self.attempts[:-1])

    @property
    def epoch(self) -> int:
        """Finished epochs."""
        return int(self.epochs[-1]["epoch"]) if self.epochs else 0


def observe_all(runs: Iterable[Run]) -> list[Observation]:
    """Reads the directories of runs."""
    folders = RowFolders()
    return [observe(run, folders=folders) for run in runs]


def observe(
    run: Run, *, now: float | None = None, folders: RowFolders | None = None
) -> Observation:
    """Reads a run directory.

    Args:
        now: Seconds since 1970, to tell a living heartbeat from a dead one; default: the clock.
        folders: The folders of rows that a question about many runs shares.
    """
    record = RunRecord.read(run, now=now, keep_metrics=False, folders=folders)
    versions = _versions(record)
    return Observation(
        record=record,
        state=record.status.state,
        problem=_describe_problem(record),
        result=record.result,
        attempts=record.attempts,
        epochs=record.epochs,
        older=record.siblings,
        provenance=_provenance(record, versions) if record.attempts else None,
        versions=versions,
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


def _versions(record: RunRecord) -> dict[str, list[str]]:
    """The versions of Python, CUDA and the packages that move numbers, over all attempts.

    Older code recorded those of the newest attempt only, in `provenance.json`.
    """
    attempts = [_recorded_versions(attempt.start) for attempt in record.attempts]
    if attempts and not attempts[-1]:
        attempts[-1] = _recorded_versions(record.provenance)
    found: dict[str, dict[str, None]] = {}
    for name, version in (pair for versions in attempts for pair in versions.items()):
        found.setdefault(name, {})[version] = None
    return {name: list(versions) for name, versions in found.items()}


def _recorded_versions(facts: Mapping[str, Any]) -> dict[str, str]:
    """The versions in a start record, or in `provenance.json`."""
    packages = facts.get("packages")
    packages = packages if isinstance(packages, dict) else {}
    found = {name: packages[name] for name in packages if name.lower() in PACKAGES}
    found |= {name: facts[key] for key, name in _LANGUAGES.items() if facts.get(key)}
    return {name: str(version) for name, version in found.items()}


_LANGUAGES = {"python": "Python", "cuda": "CUDA"}
"""Fields of start records, and their names for people."""


def _provenance(record: RunRecord, versions: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    shown = {name: ", ".join(found) for name, found in versions.items()}
    return {
        "commits": distinct(record.attempts, "commit"),
        **_uncommitted(record),
        "snapshots": distinct(record.attempts, "snapshot"),
        "backend": record.intent.get("backend"),
        "hosts": distinct(record.attempts, "host"),
        "job_ids": distinct(record.attempts, "job_id"),
        "python": shown.pop("Python", None),
        "packages": shown,
        "ends": [attempt.reason.value for attempt in record.attempts if attempt.reason],
        **_imported(record.run),
    }


def _uncommitted(record: RunRecord) -> dict[str, Any]:
    """Whether the code of an attempt differed from its commit, and which snapshots did if not all.

    Launches of before `intents.jsonl` are forgotten but for the newest.
    """
    newest = record.intent
    launches: Sequence[Mapping[str, Any]] = [newest]
    if not all(launches_of(attempt, launches) for attempt in record.attempts):
        launches = record.launches
    code: dict[str, bool] = {}
    for attempt in record.attempts:
        name = str(attempt.start.get("snapshot"))
        own = launches_of(attempt, launches) or [newest]
        code[name] = code.get(name, False) or any(bool(one.get("dirty")) for one in own)
    dirty = [name for name, differs in code.items() if differs]
    part = {"uncommitted_snapshots": dirty} if 0 < len(dirty) < len(code) else {}
    return {"uncommitted_changes": bool(dirty), **part}


def launches_of(attempt: Attempt, launches: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The launches that recorded the code that an attempt ran."""
    snapshot, commit = attempt.start.get("snapshot"), attempt.start.get("commit")
    return [
        launch
        for launch in launches
        if snapshot is not None
        if launch.get("snapshot") == snapshot and launch.get("commit", commit) == commit
    ]


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


def distinct(attempts: Sequence[Attempt], key: str) -> list[str]:
    """Values of a field of the start records, each once, in order."""
    values = (attempt.start.get(key) for attempt in attempts)
    return list(dict.fromkeys(str(value) for value in values if value is not None))
