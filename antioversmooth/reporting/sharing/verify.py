"""Verifies a committed table: every number of its JSON is derived again from the run directories.

The runs of a row are found by the ids in the table, not by the current spec of the row. So a table
can be verified years later, and by another group that has imported the runs. A run is also checked
against itself: `result.json` against the journal, and its files against their recorded checksums.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from antioversmooth import files
from antioversmooth.config import PaperValue, Table, TableRow
from antioversmooth.errors import ResultError, UserError
from antioversmooth.reporting.sharing import bundle
from antioversmooth.reporting.table.aggregate import aggregate
from antioversmooth.reporting.table.columns import COLUMNS, Row
from antioversmooth.reporting.table.document import Document, document_row
from antioversmooth.reporting.table.observe import Observation, imported_files, observe
from antioversmooth.runs import Run, result


class Verdict(Enum):
    """The outcome of a check, the worst first."""

    differs = "differs"
    """The runs have another value."""
    foreign = "foreign"
    """The run that was found is not the table's: its spec was edited, or its identity differs."""
    gone = "gone"
    """The runs behind the value, or the file of a run, are not here."""
    confirmed = "confirmed"


@dataclass(frozen=True)
class Check:
    """One committed value, or one file of a run, and the outcome."""

    key: str
    """In the row of the JSON: top1.mean, seeds[0].result.parameters; or the checked part of a
    run."""
    verdict: Verdict
    committed: Any = None
    derived: Any = None
    reason: str = ""
    """The difference, or the missing thing; empty where the value is confirmed."""
    absent_run: bool = False
    """Whether the reason is about the whole run, which other values come from, too."""

    def __str__(self) -> str:
        return f"{self.key}: {self.reason}"


@dataclass(frozen=True)
class RowReport:
    """The checks of one row."""

    group: str
    label: str
    checks: list[Check]

    def having(self, verdict: Verdict) -> list[Check]:
        """The checks with this verdict."""
        return [check for check in self.checks if check.verdict is verdict]


@dataclass(frozen=True)
class _Seed:
    """A committed seed and its run."""

    values: Row
    """As the table has it."""
    seen: Observation | None = None
    """None: the run is absent, or never ran, as the table says."""
    absence: Check | None = None
    """The check of every value that the run would have, where it cannot be read."""

    @property
    def never_ran(self) -> bool:
        """Whether the table says that it never ran, and nothing was found."""
        return self.seen is None and self.absence is None


def verify(
    document: Document, results: Path, table: Table | None, *, checkpoints: bool = True
) -> list[RowReport]:
    """One report for each row of the table.

    Args:
        results: The folder whose `runs/` contains the runs of the table.
        table: Its spec, for the paper's values; None: those are not checked.
        checkpoints: Whether the files of weights are read, too.
    """
    rows = document["rows"]
    seeds = [[_find(results, seed) for seed in row["seeds"]] for row in rows]
    pairs = zip(rows, seeds, strict=True)
    of_experiment = {row["experiment"]: of_row for row, of_row in pairs if row["experiment"]}
    derived = _derive(document, of_experiment)
    return [
        RowReport(
            row["group"],
            row["label"],
            [
                *_row_checks(row, again, of_row, of_experiment.get(row["baseline"], [])),
                *_seed_checks(again, of_row),
                *(check for seed in of_row for check in _run_checks(seed, checkpoints)),
                *(_paper_checks(row, table) if table else ()),
            ],
        )
        for row, again, of_row in zip(rows, derived, seeds, strict=True)
    ]


# -- runs ------------------------------------------------------------------------------------------


def _find(results: Path, seed: Row) -> _Seed:
    """The run of a committed seed, found by its id."""
    run_id, name = str(seed["id"]), f"seed {seed['seed']}"
    if not re.fullmatch(r"[0-9a-f]{64}", run_id) or not isinstance(seed["seed"], int):
        return _absent(seed, Verdict.gone, f"{name}: {run_id!r} is not the id of a run")
    pattern = f"seed{seed['seed']}-{run_id[:8]}"
    directories = sorted(results.glob(f"runs/*/{pattern}"))
    if not directories and seed["result"] is None and not seed.get("attempts"):
        return _Seed(seed)
    if not directories:
        missing = results / "runs" / "*" / pattern
        return _absent(seed, Verdict.gone, f"{name}: there is no {missing}")
    try:
        run = Run.load(directories[0])
    except (ResultError, UserError) as err:
        return _absent(seed, Verdict.foreign, f"{name}: {err}")
    if run.id != run_id:
        reason = f"{name}: {run.dir} is run {run.id[:12]}, the table's is {run_id[:12]}"
        return _absent(seed, Verdict.foreign, reason)
    return _Seed(seed, observe(run))


def _absent(seed: Row, verdict: Verdict, reason: str) -> _Seed:
    return _Seed(seed, absence=Check("", verdict, reason=reason, absent_run=True))


def _derive(document: Document, seeds: dict[str, list[_Seed]]) -> list[Row]:
    """The rows of the document, made again from the runs that were found."""
    name, title = document.get("name", ""), document.get("title", "")
    table = Table(name, title, "", list(map(_table_row, document["rows"])))
    observed = {key: [one.seen for one in found if one.seen] for key, found in seeds.items()}
    comparable = bool(document.get("comparable"))
    return [document_row(row) for row in aggregate(table, observed, comparable=comparable)]


def _table_row(row: Row) -> TableRow:
    paper = row["paper"]
    value = PaperValue(*map(paper.get, ("top1", "source", "confidence"))) if paper else None
    return TableRow(row["label"], row["experiment"], row["group"], row["baseline"], value)


# -- values ----------------------------------------------------------------------------------------

NOT_DERIVED = {column.key for column in COLUMNS if column.from_spec} | {"seeds"}
"""Keys of a row that come from the table's spec, or are checked one seed at a time."""
UNKNOWN_BEFORE_START = ("state", "epochs", "spec")
"""Keys of a row that come from specs while no run of it has a directory."""
BESIDE_THE_RUN = ("seed", "id", "older", "problem")
"""Keys of a seed that name its run, or concern other runs beside it."""
TRANSPORT = ("imported",)
"""Keys that say how a run came to this machine."""


def _row_checks(
    row: Row, derived: Row, seeds: Sequence[_Seed], baseline: Sequence[_Seed]
) -> Iterator[Check]:
    never_ran = any(seed.never_ran for seed in seeds)
    skipped = {*NOT_DERIVED, *(UNKNOWN_BEFORE_START if never_ran else ())}
    for key in (key for key in row if key not in skipped):
        absence = _worst(seeds) or (_worst(baseline) if key == "gain" else None)
        yield from _value_checks(key, row[key], derived.get(key), absence)


def _worst(seeds: Sequence[_Seed]) -> Check | None:
    """The worst absence, for a value that is made of all seeds."""
    absences = [seed.absence for seed in seeds if seed.absence]
    return max(absences, key=lambda absence: absence.verdict is Verdict.foreign, default=None)


def _seed_checks(derived: Row, seeds: Sequence[_Seed]) -> Iterator[Check]:
    derived_seeds = {seed["seed"]: seed for seed in derived["seeds"]}
    for index, seed in enumerate(seeds):
        if seed.never_ran:
            continue
        again = derived_seeds.get(seed.values["seed"], {})
        for key, committed in seed.values.items():
            if key not in BESIDE_THE_RUN:
                path = f"seeds[{index}].{key}"
                yield from _value_checks(path, committed, again.get(key), seed.absence)


def _value_checks(key: str, committed: Any, derived: Any, absence: Check | None) -> Iterator[Check]:
    """A check for each committed value in a part of the JSON; runs may have more values."""
    if isinstance(committed, dict):
        inner = derived if isinstance(derived, dict) else {}
        for name, value in committed.items():
            if name not in TRANSPORT:
                yield from _value_checks(f"{key}.{name}", value, inner.get(name), absence)
    elif absence is None:
        yield _compare(key, committed, derived, "{} in the table, {} by its runs")
    elif committed is not None:
        yield replace(absence, key=key, committed=committed)


def _compare(key: str, committed: Any, derived: Any, difference: str) -> Check:
    """The check of two values.

    Args:
        difference: Reason where they differ, with the places of both.
    """
    if _equal(committed, derived):
        return Check(key, Verdict.confirmed, committed, derived)
    reason = difference.format(_shortened(committed), _shortened(derived))
    return Check(key, Verdict.differs, committed, derived, reason)


def _shortened(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _equal(one: Any, other: Any) -> bool:
    """Whether two values are the same; numbers to twelve digits, since another Python may round
    sums differently."""
    if isinstance(one, float | int) and isinstance(other, float | int) and type(one) is not bool:
        close = math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-12)
        return close or (math.isnan(one) and math.isnan(other))
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    return bool(one == other)


def _paper_checks(row: Row, table: Table) -> Iterator[Check]:
    """The paper's value against the table's spec."""
    same = [r for r in table.rows if (r.experiment, r.label) == (row["experiment"], row["label"])]
    if not same:
        yield Check("row", Verdict.differs, reason=f"tables/{table.name}.yaml has no such row")
        return
    for key in ("top1", "source", "confidence"):
        committed, specified = (row["paper"] or {}).get(key), getattr(same[0].paper, key, None)
        if committed is not None or specified is not None:
            yield _compare(f"paper.{key}", committed, specified, "{} in the table, {} in its spec")


# -- a run against itself --------------------------------------------------------------------------


def _run_checks(seed: _Seed, checkpoints: bool) -> Iterator[Check]:
    name = f"seed {seed.values['seed']}"
    if seed.seen and seed.seen.result is not None:
        yield from journal_checks(name, seed.seen)
        yield from _file_checks(name, seed.seen.run, checkpoints)
    elif seed.seen and seed.values["result"] is not None:
        reason = seed.seen.problem or f"the run is {seed.seen.state.value}"
        yield Check(f"{name}: result.json", Verdict.differs, reason=reason)


def journal_checks(name: str, seen: Observation) -> Iterator[Check]:
    """Checks of the `result.json` of a done run against the journal that it was made from.

    Args:
        name: Begins the keys: seed 0.
    """
    assert seen.result is not None
    try:
        derived = result.outcome(seen.run.metrics(), seen.run.experiment)
    except (KeyError, TypeError, ValueError) as err:
        key = f"{name}: metrics.jsonl"
        yield Check(key, Verdict.differs, reason=f"is not the journal of a run: {err!r}")
        return
    difference = "result.json has {}, metrics.jsonl has {}"
    for part, value in derived.items():
        yield _compare(f"{name}: {part}", seen.result.get(part), value, difference)


def _file_checks(name: str, run: Run, checkpoints: bool) -> Iterator[Check]:
    """Checks of files against their recorded checksums."""
    difference = "sha256 {0:.12} is recorded, the file has {1:.12}"
    for file, expected in _checksums(run).items():
        path, key = run.dir / file, f"{name}: {file}"
        if file.endswith(".pt") and not checkpoints:
            continue
        if path.is_file():
            yield _compare(key, expected, files.sha256(path), difference)
        else:
            yield Check(key, Verdict.gone, expected, reason="the file is not there")


def _checksums(run: Run) -> dict[str, str]:
    """The recorded checksums of the final weights, and of all files that came in a bundle."""
    imported = imported_files(run).items()
    recorded = {name: checksum for name, checksum in imported if bundle.NAMES.fullmatch(name)}
    if final := (run.result() or {}).get("checkpoint"):
        recorded[f"checkpoints/{Path(str(final.get('file'))).name}"] = str(final.get("sha256"))
    return recorded
