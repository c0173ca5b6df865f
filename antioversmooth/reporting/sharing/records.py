"""Compares the records of a run directory that hold the same fact: attempts, launches, jobs, code,
classes.

`attempts.jsonl` alone can be edited by hand; here it is held against `intents.jsonl`, `jobs.jsonl`,
`provenance.json` and the snapshot of the code. Runs of old versions lack some of these: what only
one record holds is not derivable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from antioversmooth.datasets.classes import classes_checksum
from antioversmooth.files import read_mapping
from antioversmooth.reporting.table.observe import Observation, launches_of
from antioversmooth.runs.agreement import CLOCK_SKEW_S, shortened
from antioversmooth.runs.attempts import Attempt, EndReason
from antioversmooth.runs.code import NO_BYTE_CODE, SNAPSHOT, code_id, snapshot_checksums
from antioversmooth.runs.jobs import EventKind
from antioversmooth.runs.record import SLURM
from antioversmooth.runs.recorded_data import recorded_classes, recorded_data

SINGLE = "only one record of the run has it"
"""Why a fact is not derivable."""


class Fact(NamedTuple):
    """A fact that records of a run hold, and how they agree."""

    name: str
    """A key of the provenance in a table; or the name of a file."""
    problems: Sequence[str] = ()
    """How records contradict each other."""
    is_single: bool = False
    """Whether nothing but one record holds it, of one attempt at least."""


class Snapshots:
    """Ids of the content of snapshots, each computed once for a question about many runs."""

    def __init__(self) -> None:
        self._ids: dict[Path, str] = {}

    def content_id(self, folder: Path) -> str:
        """The id of the modules that are in a snapshot now."""
        if folder not in self._ids:
            # the first versions let Python write byte code into snapshots
            found = {
                name: checksum
                for name, checksum in snapshot_checksums(folder).items()
                if NO_BYTE_CODE not in name.split("/")
            }
            self._ids[folder] = code_id(found)
        return self._ids[folder]


def compare_records(seen: Observation, snapshots: Snapshots) -> list[Fact]:
    """The facts that several records of a done run may hold."""
    attempts, launches = seen.attempts, seen.record.launches
    of_start = seen.record.provenance
    # of the attempt that it names; of old versions, which do not say it, of the newest
    number = of_start.get("attempt", attempts[-1].number if attempts else None)
    described = [attempt for attempt in attempts if attempt.number == number]
    known_twice = _keys_of_all(attempts, described, of_start)
    untold = [attempt for attempt in attempts if not launches_of(attempt, launches)]
    is_launched = bool(launches) and not untold
    events, is_told = _jobs(seen)
    return [
        Fact(
            "commits",
            [*_commits(seen, untold), *_same(described, of_start, ("commit",))],
            not is_launched,
        ),
        Fact(
            "snapshots",
            [*_code(seen, snapshots), *_same(described, of_start, ("snapshot",))],
            not is_launched,
        ),
        Fact("backend", list(_newest_launch(seen)), not launches),
        Fact("uncommitted_changes", (), not is_launched),
        Fact("hosts", _same(described, of_start, ("host",)), "host" not in known_twice),
        Fact(
            "job_ids",
            [*events, *_same(described, of_start, ("job_id",))],
            not (is_told or "job_id" in known_twice),
        ),
        Fact("python", _same(described, of_start, ("python",)), "python" not in known_twice),
        Fact(
            "packages",
            _same(described, of_start, ("packages", "cuda")),
            "packages" not in known_twice,
        ),
        Fact("ends", (), [attempt.reason for attempt in attempts] != [EndReason.completed]),
        Fact("data.fingerprint", list(_fingerprint(seen))),
        Fact("classes.json", list(_classes(seen))),
    ]


def _keys_of_all(
    attempts: Sequence[Attempt], described: Sequence[Attempt], provenance: Mapping[str, Any]
) -> set[str]:
    """The keys that `provenance.json` shares with the start of each attempt: it is of one only."""
    if len(attempts) != 1 or not described:
        return set()
    return attempts[0].start.keys() & provenance.keys()


def _same(
    attempts: Iterable[Attempt], provenance: Mapping[str, Any], keys: Sequence[str]
) -> list[str]:
    """How the start record of an attempt contradicts `provenance.json`."""
    return [
        f"attempts.jsonl says {key} = {shortened(ours)} of attempt {attempt.number},"
        f" provenance.json {shortened(theirs)}"
        for attempt in attempts
        for key, ours, theirs in _pairs(attempt.start, provenance, keys)
        if ours != theirs
    ]


def _pairs(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], keys: Iterable[str]
) -> Iterator[tuple[str, Any, Any]]:
    """The values of keys that both have; those of packages one by one."""
    for key in (key for key in keys if key in ours and key in theirs):
        inner, outer = ours[key], theirs[key]
        if isinstance(inner, dict) and isinstance(outer, dict):
            yield from _pairs(inner, outer, inner)
        else:
            yield key, inner, outer


def _commits(seen: Observation, untold: Sequence[Attempt]) -> Iterator[str]:
    """Attempts whose code no launch recorded; launches of before `intents.jsonl` are forgotten."""
    launches = seen.record.launches
    since = min((launch.get("time", 0) for launch in launches), default=float("inf"))
    for attempt in untold:
        if attempt.started > since - CLOCK_SKEW_S and attempt.start.get("snapshot"):
            code = f"commit {attempt.start.get('commit')}, snapshot {attempt.start['snapshot']}"
            yield f"attempts.jsonl: attempt {attempt.number} ran {code}, intents.jsonl has no such"


def _newest_launch(seen: Observation) -> Iterator[str]:
    intent, launches = seen.record.intent, seen.record.launches
    keys = [key for key in ("backend", "commit", "dirty", "snapshot") if key in intent]
    told = [intent.get(key) for key in keys]
    if launches and keys and all([one.get(key) for key in keys] != told for one in launches):
        yield "intent.json is none of the launches in intents.jsonl"


def _code(seen: Observation, snapshots: Snapshots) -> Iterator[str]:
    """Snapshots of attempts that are beside the runs, and are not what their name stands for."""
    folder = seen.run.dir.parents[2] / "snapshots"
    for name in dict.fromkeys(str(attempt.start.get("snapshot")) for attempt in seen.attempts):
        if "/" in name or not (folder / name / SNAPSHOT).is_file():
            continue
        found = snapshots.content_id(folder / name)
        recorded = read_mapping(folder / name / SNAPSHOT).get("id")
        if found != name or recorded != name:
            what = f"content has id {found}" if found != name else f"{SNAPSHOT} says {recorded}"
            yield f"snapshots/{name} was edited: its {what}"


def _jobs(seen: Observation) -> tuple[list[str], bool]:
    """How jobs.jsonl contradicts the jobs of attempts, and whether it has all of them."""
    events = seen.record.events
    known = {event.job_id for event in events if event.job_id}
    ended = {event.attempt: event.job_id for event in events if event.kind is EventKind.ended}
    problems = [
        f"attempts.jsonl says job_id = {attempt.job_id} of attempt {attempt.number}, jobs.jsonl"
        f" {ended[attempt.number]}"
        for attempt in seen.attempts
        if attempt.job_id != ended.get(attempt.number, attempt.job_id)
    ]
    # a run on this machine may be in somebody's allocation; an unanswered sbatch has told no id
    backends = {launch.get("backend") for launch in seen.record.launches}
    is_complete = not any(event.kind is EventKind.unanswered for event in events)
    if known and backends == {SLURM} and is_complete and not problems:
        problems = [
            f"attempts.jsonl says job_id = {attempt.job_id} of attempt {attempt.number}, and"
            " jobs.jsonl has no such job"
            for attempt in seen.attempts
            if attempt.job_id and attempt.job_id not in known
        ]
    return problems, all(attempt.job_id in known for attempt in seen.attempts)


def _fingerprint(seen: Observation) -> Iterator[str]:
    """The data that the run's identity names, against that which it was measured on."""
    expected = seen.run.experiment.data.fingerprint
    found = {
        "result.json": (seen.result or {}).get("data"),
        "provenance.json": recorded_data(seen.run.dir),
    }
    for source, data in found.items():
        recorded = data.get("fingerprint") if isinstance(data, dict) else None
        if expected and recorded and recorded != expected:
            yield (
                f"spec.yaml says data.fingerprint = {shortened(expected)}, {source}"
                f" {shortened(recorded)}"
            )


def _classes(seen: Observation) -> Iterator[str]:
    names, data = recorded_classes(seen.run.dir), (seen.result or {}).get("data")
    recorded = data.get("classes") if isinstance(data, dict) else None
    if names is not None and recorded and classes_checksum(names) != recorded:
        yield (
            f"classes.json: its names have the sha256 {classes_checksum(names):.12}, result.json"
            f" says {shortened(recorded)[:12]}"
        )
