"""A committed table held against its runs: every number of its JSON is derived again from the run
directories.

A row is taken as the table names it, by the ids of its runs, not by what its spec says today; so a
table can be verified years later, and by another group that has imported the runs. What a run says
of itself is checked, too: `result.json` against the journal, and the final checkpoint against the
checksum that was noted when it was written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from antioversmooth import files
from antioversmooth.config import PaperValue, Table, TableRow
from antioversmooth.errors import ResultError, UserError
from antioversmooth.reporting.sharing import bundle
from antioversmooth.reporting.table import document as documents
from antioversmooth.reporting.table import tables
from antioversmooth.reporting.table.aggregate import aggregate
from antioversmooth.reporting.table.document import Document
from antioversmooth.reporting.table.observe import Observation, imported_files, observe
from antioversmooth.runs import Run, result

Row = dict[str, Any]


class Verdict(Enum):
    """What became of a committed value."""

    confirmed = "confirmed"
    differs = "differs"
    """Its runs say another one."""
    gone = "gone"
    """The runs, or the file of one, that it comes from are not here."""
    foreign = "foreign"
    """What lies in the place of its run is not that run: its spec was edited, or it has another
    identity."""


@dataclass(frozen=True)
class Check:
    """One committed value, or one file of a run, and what became of it."""

    key: str
    """In the row of the JSON: top1.mean, seeds[0].result.parameters; or what was checked of a
    run."""
    verdict: Verdict
    committed: Any = None
    derived: Any = None
    reason: str = ""
    """What is missing or wrong, where it is not a pair of values."""

    def __str__(self) -> str:
        if self.reason:
            return f"{self.key}: {self.reason}"
        return (
            f"{self.key}: {_shown(self.committed)} in the table, {_shown(self.derived)} by its runs"
        )


def _shown(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass(frozen=True)
class RowReport:
    """The checks of one row."""

    group: str
    label: str
    checks: list[Check]

    def having(self, verdict: Verdict) -> list[Check]:
        """Those with this verdict."""
        return [check for check in self.checks if check.verdict is verdict]


@dataclass(frozen=True)
class _Found:
    """What lies in the place of a committed seed."""

    seed: Row
    """As the table has it."""
    index: int
    seen: Observation | None
    """None: not there, or not to be trusted."""
    verdict: Verdict = Verdict.confirmed
    reason: str = ""

    @property
    def never_ran(self) -> bool:
        """The table says so, and indeed there is nothing."""
        return self.seen is None and self.verdict is Verdict.confirmed


def load(path: Path) -> Document:
    """A committed table.

    Raises:
        UserError: There is no such file, or it is not the JSON of a table.
    """
    try:
        document = files.read_json(path)
    except (ValueError, RecursionError, OSError) as err:
        raise UserError(f"{path} cannot be read: {err}") from err
    if document is None:
        raise UserError(f"there is no {path}; `antioversmooth table` writes it")
    if not isinstance(document, dict) or not _is_table(document):
        raise UserError(f"{path} is not the JSON of a table")
    try:
        for render in tables.FORMATS.values():
            render(document)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as err:
        raise UserError(
            f"{path} is not the JSON of a table: it cannot be rendered ({err!r})"
        ) from err
    return document


_ROW = {
    "group": str,
    "label": str,
    "state": str,
    "experiment": str,
    "baseline": str,
    "paper": dict,
    "seeds": list,
}
_MAY_BE_NULL = ("experiment", "baseline", "paper")


def _is_table(document: Document) -> bool:
    rows = document.get("rows")
    return isinstance(rows, list) and all(isinstance(row, dict) and _is_row(row) for row in rows)


def _is_row(row: Row) -> bool:
    fits = all(
        isinstance(row.get(key), kind) or (key in row and row[key] is None and key in _MAY_BE_NULL)
        for key, kind in _ROW.items()
    )
    return fits and all(
        isinstance(seed, dict) and {"seed", "id", "state", "result"} <= seed.keys()
        for seed in row["seeds"]
    )


def verify(
    document: Document, results: Path, table: Table | None, *, checkpoints: bool = True
) -> list[RowReport]:
    """One report for each row of the table.

    Args:
        results: The folder whose `runs/` hold the runs of the table.
        table: Its spec, for the paper's values; None: those are not checked.
        checkpoints: Whether the files of weights are read, too.
    """
    found = [
        [_find(results, seed, i) for i, seed in enumerate(row["seeds"])] for row in document["rows"]
    ]
    derived = _derive(document, found)
    of = {
        row["experiment"]: seeds
        for row, seeds in zip(document["rows"], found, strict=True)
        if row["experiment"]
    }
    reports = []
    for row, again, seeds in zip(document["rows"], derived, found, strict=True):
        checks = [
            *_row_checks(row, again, seeds, of.get(row["baseline"], [])),
            *_seed_checks(again, seeds),
        ]
        for one in seeds:
            if one.seen is not None and one.seen.result is not None:
                checks += _run_checks(one, one.seen, checkpoints)
        checks += _paper_checks(row, table) if table else []
        reports.append(RowReport(row["group"], row["label"], checks))
    return reports


# -- finding ---------------------------------------------------------------------------------------


def _find(results: Path, seed: Row, index: int) -> _Found:
    run_id, number = str(seed["id"]), seed["seed"]
    if not re.fullmatch(r"[0-9a-f]{64}", run_id) or not isinstance(number, int):
        return _Found(
            seed, index, None, Verdict.gone, f"seed {number}: {run_id!r} is no id of a run"
        )
    places = sorted(results.glob(f"runs/*/seed{number}-{run_id[:8]}"))
    if not places:
        if seed["result"] is None and not seed.get("attempts"):
            return _Found(seed, index, None)
        where = results / "runs" / "*" / f"seed{number}-{run_id[:8]}"
        return _Found(seed, index, None, Verdict.gone, f"seed {number}: there is no {where}")
    try:
        run = Run.load(places[0])
    except (ResultError, UserError) as err:
        return _Found(seed, index, None, Verdict.foreign, f"seed {number}: {err}")
    if run.id != run_id:
        said = f"seed {number}: {places[0]} is run {run.id[:12]}, the table's is {run_id[:12]}"
        return _Found(seed, index, None, Verdict.foreign, said)
    return _Found(seed, index, observe(run))


def _derive(document: Document, found: Sequence[Sequence[_Found]]) -> list[Row]:
    """The rows again, from the runs that were found, by what wrote them."""
    rows = [_table_row(row) for row in document["rows"]]
    observed = {
        row["experiment"]: [one.seen for one in seeds if one.seen is not None]
        for row, seeds in zip(document["rows"], found, strict=True)
        if row["experiment"]
    }
    table = Table(document.get("name", ""), document.get("title", ""), "", rows)
    comparable = bool(document.get("comparable"))
    return [
        documents.document_row(row) for row in aggregate(table, observed, comparable=comparable)
    ]


def _table_row(row: Row) -> TableRow:
    paper = row["paper"]
    value = (
        PaperValue(*(paper.get(key) for key in ("top1", "source", "confidence"))) if paper else None
    )
    return TableRow(row["label"], row["experiment"], row["group"], row["baseline"], value)


# -- values ----------------------------------------------------------------------------------------

FROM_ELSEWHERE = ("group", "label", "experiment", "baseline", "paper", "seeds")
"""Keys of a row that come from the table's spec, or are checked one seed at a time."""
FROM_BESIDE = ("seed", "id", "older", "problem")
"""Keys of a seed that name it, or tell of what lies beside its run."""
OF_THE_WAY = ("imported",)
"""Keys that tell how a run came here."""


def _row_checks(
    row: Row, again: Row, seeds: Sequence[_Found], baseline: Sequence[_Found]
) -> Iterator[Check]:
    absent = _absence(seeds)
    for key in (key for key in row if key not in FROM_ELSEWHERE):
        missing = absent or (_absence(baseline) if key == "gain" else None)
        if any(one.never_ran for one in seeds) and key in ("state", "epochs", "spec"):
            # said of runs that have no directory yet, from the spec
            continue
        yield from _compared(key, row[key], again.get(key), missing)


def _absence(seeds: Sequence[_Found]) -> tuple[Verdict, str] | None:
    """Why what is made of all seeds cannot be derived; the worst of several reasons."""
    found = [(one.verdict, one.reason) for one in seeds if one.verdict is not Verdict.confirmed]
    return max(found, key=lambda one: one[0] is Verdict.foreign) if found else None


def _seed_checks(again: Row, seeds: Sequence[_Found]) -> Iterator[Check]:
    derived = {seed["seed"]: seed for seed in again["seeds"]}
    for one in (one for one in seeds if not one.never_ran):
        missing = None if one.seen else (one.verdict, one.reason)
        values = derived.get(one.seed["seed"], {})
        for key in (key for key in one.seed if key not in FROM_BESIDE):
            yield from _compared(
                f"seeds[{one.index}].{key}", one.seed[key], values.get(key), missing
            )


def _compared(
    key: str, committed: Any, derived: Any, missing: tuple[Verdict, str] | None
) -> Iterator[Check]:
    """A check for each value in a part of the JSON. What it does not say is not asked of the
    runs."""
    if isinstance(committed, dict):
        inner = derived if isinstance(derived, dict) else {}
        for name, value in (
            (name, value) for name, value in committed.items() if name not in OF_THE_WAY
        ):
            yield from _compared(f"{key}.{name}", value, inner.get(name), missing)
    elif missing:
        if committed is not None:
            yield Check(key, missing[0], committed, None, missing[1])
    elif _equal(committed, derived):
        yield Check(key, Verdict.confirmed, committed, derived)
    else:
        yield Check(key, Verdict.differs, committed, derived)


def _equal(one: Any, other: Any) -> bool:
    """The same value; numbers to twelve digits, since sums may be rounded otherwise in another
    Python."""
    if (
        isinstance(one, float | int)
        and isinstance(other, float | int)
        and not isinstance(one, bool)
    ):
        return math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-12) or (
            math.isnan(one) and math.isnan(other)
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    return bool(one == other)


def _paper_checks(row: Row, table: Table) -> Iterator[Check]:
    """The paper's value as the table's spec has it."""
    same = [r for r in table.rows if (r.experiment, r.label) == (row["experiment"], row["label"])]
    if not same:
        yield Check("row", Verdict.differs, reason=f"tables/{table.name}.yaml has no such row")
        return
    paper = same[0].paper
    for key in ("top1", "source", "confidence"):
        committed, said = (row["paper"] or {}).get(key), getattr(paper, key, None)
        if committed is not None or said is not None:
            verdict = Verdict.confirmed if _equal(committed, said) else Verdict.differs
            reason = (
                ""
                if verdict is Verdict.confirmed
                else f"{_shown(committed)} in the table, {_shown(said)} in its spec"
            )
            yield Check(f"paper.{key}", verdict, committed, said, reason)


# -- a run against itself --------------------------------------------------------------------------


def _run_checks(one: _Found, seen: Observation, checkpoints: bool) -> Iterator[Check]:
    seed = f"seed {one.seed['seed']}"
    yield from journal_checks(seed, seen)
    yield from _file_checks(seed, seen.run, checkpoints)


def journal_checks(seed: str, seen: Observation) -> Iterator[Check]:
    """`result.json` of a run that is done against the journal that it was gathered from.

    Args:
        seed: The run's, for what is told: seed 0.
    """
    assert seen.result is not None
    if not seen.epochs:
        yield Check(
            f"{seed}: metrics.jsonl", Verdict.gone, reason="holds no evaluation of this run"
        )
        return
    try:
        again = result.outcome(seen.run.metrics())
    except (KeyError, TypeError, ValueError) as err:
        yield Check(
            f"{seed}: metrics.jsonl", Verdict.differs, reason=f"is no journal of a run: {err!r}"
        )
        return
    for key, derived in again.items():
        recorded = seen.result.get(key)
        verdict = Verdict.confirmed if _equal(recorded, derived) else Verdict.differs
        said = f"result.json says {_shown(recorded)}, metrics.jsonl {_shown(derived)}"
        yield Check(
            f"{seed}: {key}",
            verdict,
            recorded,
            derived,
            "" if verdict is Verdict.confirmed else said,
        )


def _file_checks(seed: str, run: Run, checkpoints: bool) -> Iterator[Check]:
    """Files against the checksums that were noted of them."""
    for path, expected in _checksums(run, checkpoints):
        name = path.relative_to(run.dir)
        if not path.is_file():
            yield Check(f"{seed}: {name}", Verdict.gone, expected, reason="the file is not there")
            continue
        found = files.sha256(path)
        said = "" if found == expected else f"its sha256 is {found[:12]}, noted was {expected[:12]}"
        yield Check(
            f"{seed}: {name}", Verdict.differs if said else Verdict.confirmed, expected, found, said
        )


def _checksums(run: Run, checkpoints: bool) -> Iterator[tuple[Path, str]]:
    """The final weights, and all that came in a bundle."""
    final = (run.result() or {}).get("checkpoint") or {}
    came = {
        name: checksum
        for name, checksum in imported_files(run).items()
        if bundle.NAMES.fullmatch(name)
    }
    if final:
        came[f"checkpoints/{Path(str(final.get('file'))).name}"] = str(final.get("sha256"))
    for name, checksum in came.items():
        if checkpoints or not name.endswith(".pt"):
            yield run.dir / name, checksum


# -- telling ---------------------------------------------------------------------------------------


def count(reports: Sequence[RowReport]) -> dict[str, int]:
    """How many values have each verdict."""
    return {
        verdict.value: sum(len(report.having(verdict)) for report in reports) for verdict in Verdict
    }


def as_json(
    document: Document, reports: Sequence[RowReport], rendered: Mapping[str, bool]
) -> dict[str, Any]:
    """Every value and what became of it."""
    return {
        "table": document.get("name"),
        "title": document.get("title"),
        "counts": count(reports),
        "renderings": dict(rendered),
        "rows": [
            {
                "group": report.group,
                "label": report.label,
                "checks": [
                    {
                        "key": check.key,
                        "verdict": check.verdict.value,
                        "committed": check.committed,
                        "derived": check.derived,
                        "reason": check.reason,
                    }
                    for check in report.checks
                ],
            }
            for report in reports
        ],
    }


def lines(reports: Sequence[RowReport], rendered: Mapping[str, bool]) -> Iterator[str]:
    """A line for each row, those below it that it has to be told about, and the sum."""
    for report in reports:
        name = ", ".join(filter(None, [report.group, report.label]))
        yield f"  {name}: {_summary(report)}"
        for verdict in (Verdict.differs, Verdict.foreign, Verdict.gone):
            told = dict.fromkeys(_line(check) for check in report.having(verdict))
            yield from (f"      {verdict.value:<8}  {line}" for line in told)
    same, other = (
        [name for name, equal in rendered.items() if equal is kind] for kind in (True, False)
    )
    if same:
        yield f"  rendered from this JSON, to the byte: {', '.join(same)}"
    if other:
        yield (
            f"  NOT what this JSON renders to: {', '.join(other)}; `antioversmooth render` writes"
            " them again"
        )
    yield ", ".join(f"{number} {verdict}" for verdict, number in count(reports).items())


def _summary(report: RowReport) -> str:
    worst = next(
        v
        for v in (Verdict.differs, Verdict.foreign, Verdict.gone, Verdict.confirmed)
        if report.having(v) or v is Verdict.confirmed
    )
    confirmed = f"{len(report.having(Verdict.confirmed))} values confirmed"
    return confirmed if worst is Verdict.confirmed else f"{worst.value.upper()}; {confirmed}"


def _line(check: Check) -> str:
    """What is gone is told once, not for each value that came from it."""
    absent = check.verdict in (Verdict.gone, Verdict.foreign) and check.reason.startswith("seed ")
    return check.reason if absent else str(check)
