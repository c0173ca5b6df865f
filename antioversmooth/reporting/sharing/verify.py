"""Verifies a committed table: every value of its JSON is derived again from the run directories.

The runs of a row are found by the ids in the table, not by the current spec of the row. So a table
can be verified years later, and by another group that has imported the runs. A run is also checked
against itself. A value that nothing else tells is named as such.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from antioversmooth.config import PaperValue, Table, TableRow
from antioversmooth.errors import ResultError, UserError
from antioversmooth.reporting.sharing.checks import Check, Verdict, compare
from antioversmooth.reporting.sharing.records import SINGLE, Fact, Snapshots, compare_records
from antioversmooth.reporting.sharing.run_checks import run_checks
from antioversmooth.reporting.table import captions
from antioversmooth.reporting.table import document as documents
from antioversmooth.reporting.table.aggregate import aggregate
from antioversmooth.reporting.table.columns import COLUMNS, Row, columns_of, stated
from antioversmooth.reporting.table.document import Document
from antioversmooth.reporting.table.observe import Observation, observe
from antioversmooth.runs import Run, agreement
from antioversmooth.runs.result import RESULT
from antioversmooth.spec.changes import contradictions


@dataclass(frozen=True)
class RowReport:
    """The checks of one row, or of the table itself."""

    group: str
    label: str
    checks: list[Check]

    def having(self, verdict: Verdict) -> list[Check]:
        """The checks with this verdict."""
        return [check for check in self.checks if check.verdict is verdict]


RunCheck = Callable[[str, Observation], Iterable[Check]]
"""Further checks of a done run; the first argument begins their keys: seed 0."""


@dataclass(frozen=True)
class _Seed:
    """A committed seed and its run."""

    values: Row
    """As the table has it."""
    seen: Observation | None = None
    """None: the run is absent, or never ran, as the table says."""
    absence: Check | None = None
    """The check of every value that the run would have, where it cannot be read."""
    copies: Sequence[Path] = ()
    """Other directories of its name, which are not read."""
    facts: Sequence[Fact] = ()
    """Facts that several records of the run may hold; empty while it is not done."""

    @property
    def never_ran(self) -> bool:
        """Whether the table says that it never ran, and nothing was found."""
        return self.seen is None and self.absence is None


def verify(
    document: Document,
    results: Path,
    table: Table | None,
    *,
    checkpoints: bool = True,
    more_checks: RunCheck | None = None,
) -> list[RowReport]:
    """One report for each row of the table, and one for the table itself.

    Args:
        results: The folder whose `runs/` contains the runs of the table.
        table: Its spec, for titles and the paper's values; None: those are not derivable.
        checkpoints: Whether the files of weights are read, too.
        more_checks: Called for each done run.
    """
    rows = document["rows"]
    experiments = _experiments_by_id(rows)
    found, snapshots = _by_name(results), Snapshots()
    seeds = [
        [
            _find(results, found, seed, experiments[str(seed["id"])], snapshots)
            for seed in row["seeds"]
        ]
        for row in rows
    ]
    pairs = list(zip(rows, seeds, strict=True))
    of_name = {_name(row): of_row for row, of_row in pairs if row["experiment"]}
    again = _derive(document, table, of_name)
    reports = [
        RowReport(
            row["group"],
            row["label"],
            [
                *_row_checks(row, derived, of_row, of_name.get(row["baseline"], [])),
                *_seed_checks(derived, of_row, experiments),
                *_lack_checks(document, row, derived),
                *(
                    check
                    for seed in of_row
                    for check in _run_checks(seed, checkpoints, more_checks)
                ),
                *_spec_checks(row, derived, of_row, table),
            ],
        )
        for (row, of_row), derived in zip(pairs, again["rows"], strict=True)
    ]
    reports.append(RowReport("", "the table", [*_table_checks(document, again, table, seeds)]))
    if not _is_older(document):
        return reports
    return [replace(one, checks=list(map(_allow_older, one.checks))) for one in reports]


OLDER = {"format", "caption", "notes", "gain.spread", "gain.beyond_spread"}
"""Keys of values that tables of older formats have in another form."""


def _is_older(document: Document) -> bool:
    return int(document.get("format", 1)) < documents.FORMAT


def _allow_older(check: Check) -> Check:
    """The check of a value of an older format, which today's code no longer derives."""
    if check.key not in OLDER or check.verdict is not Verdict.differs:
        return check
    return replace(check, verdict=Verdict.underivable, reason="tables had another form of it then")


# -- runs ------------------------------------------------------------------------------------------


def _by_name(results: Path) -> dict[str, list[Path]]:
    """The run directories of a results folder by their names, those of each name in order."""
    found: dict[str, list[Path]] = {}
    for path in sorted(results.glob("runs/*/seed*-*")):
        found.setdefault(path.name, []).append(path)
    return found


def _find(
    results: Path,
    directories: Mapping[str, Sequence[Path]],
    seed: Row,
    experiments: Sequence[Any],
    snapshots: Snapshots,
) -> _Seed:
    """The run of a committed seed, found by its id.

    Args:
        directories: See `_by_name`.
        experiments: Those of the rows that have the run. The table reads it in the folder of the
            first of them; it is looked for in other folders after that.
    """
    run_id, name = str(seed["id"]), f"seed {seed['seed']}"
    if not re.fullmatch(r"[0-9a-f]{64}", run_id) or not isinstance(seed["seed"], int):
        return _absent(seed, Verdict.gone, f"{name}: {run_id!r} is not the id of a run")
    pattern = f"seed{seed['seed']}-{run_id[:8]}"
    found = {path.parent.name: path for path in directories.get(pattern, ())}
    own = [found.pop(name) for name in experiments if name in found]
    places = [*own, *found.values()]
    if not places and seed["result"] is None and not seed.get("attempts"):
        return _Seed(seed)
    if not places:
        missing = results / "runs" / "*" / pattern
        return _absent(seed, Verdict.gone, f"{name}: there is no {missing}")
    try:
        run = Run.load(places[0])
    except (ResultError, UserError) as err:
        is_gone = isinstance(err.__cause__, FileNotFoundError)
        return _absent(seed, Verdict.gone if is_gone else Verdict.foreign, f"{name}: {err}")
    if run.id != run_id:
        reason = f"{name}: {run.dir} is run {run.id[:12]}, the table's is {run_id[:12]}"
        return _absent(seed, Verdict.foreign, reason)
    seen = observe(run)
    facts = compare_records(seen, snapshots) if seen.result is not None else ()
    return _Seed(seed, _as_in_table(seen, seed), copies=places[1:], facts=facts)


def _as_in_table(seen: Observation, seed: Row) -> Observation:
    """The observation with the table's word for what does not come from the run.

    These values are not derivable, but the notes that follow from them are.
    """
    committed = seed.get("provenance") or {}
    transport = {key: committed[key] for key in TRANSPORT if key in committed}
    own = {key: value for key, value in (seen.provenance or {}).items() if key not in TRANSPORT}
    provenance = {**own, **transport} if seen.provenance is not None else None
    return replace(seen, older=seed.get("older", []), provenance=provenance)


def _absent(seed: Row, verdict: Verdict, reason: str) -> _Seed:
    return _Seed(seed, absence=Check("", verdict, reason=reason, absent_run=True))


def _derive(document: Document, table: Table | None, seeds: dict[str, list[_Seed]]) -> Document:
    """The document, made again from the runs that were found; without any, its rows only."""
    rows = list(map(_table_row, document["rows"]))
    names = document.get("name", ""), document.get("title", "")
    extra = list(document.get("columns", []))
    again = replace(table, rows=rows) if table else Table(*names, rows=rows, columns=extra)
    observed = {key: [one.seen for one in found if one.seen] for key, found in seeds.items()}
    numbers = [seen.run.seed for of_row in observed.values() for seen in of_row]
    if not numbers:
        return {
            "rows": [
                documents.document_row(row, again.columns) for row in aggregate(again, observed)
            ]
        }
    return documents.build(again, observed, list(dict.fromkeys(numbers)))


def _table_row(row: Row) -> TableRow:
    paper = row["paper"]
    value = PaperValue(**_fields_of(paper)) if paper else None
    given = row["label"], row["experiment"], row["group"], row["baseline"], value
    return TableRow(*given, name=_name(row) or "")


def _fields_of(paper: Row) -> Row:
    return {field.name: paper[field.name] for field in fields(PaperValue) if field.name in paper}


def _name(row: Row) -> Any:
    """The name of a row, which is that of its spec where nothing else is said."""
    return row.get("row") or row["experiment"]


def _experiments_by_id(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """The experiments that have a run, by its id, each once and in the order of the rows: rows of
    one identity share their runs."""
    found: dict[str, dict[Any, None]] = {}
    for row in rows:
        for seed in row["seeds"]:
            found.setdefault(str(seed["id"]), {})[row["experiment"]] = None
    return {run_id: list(experiments) for run_id, experiments in found.items()}


# -- values of the table ---------------------------------------------------------------------------

FROM_SPEC = {column.key for column in COLUMNS if column.from_spec}
"""Keys of a row that come from the table's spec."""
BESIDE_BASELINE = {column.key for column in COLUMNS if column.beside_baseline}
"""Keys of a row that come from the runs of its baseline, too."""
UNKNOWN_BEFORE_START = ("state", "epochs", "spec")
"""Keys of a row that come from specs while no run of it has a directory."""
BESIDE_THE_RUN = {"older": "other runs, which need not be here"}
"""Keys of a seed that are not about its run, with the reason why they are not derivable."""
TRANSPORT = {"imported": "how the run came to that machine"}
"""Keys of the provenance of a run that do not travel with it."""
COPY = "a copy of a run, which is not read"
THEN = "the images that were on that machine then"
LACKED = "its runs have it, the table does not"
NOT_BEGUN = "a run of it has not begun, so its specs are not known"


def _row_checks(
    row: Row, derived: Row, seeds: Sequence[_Seed], baseline: Sequence[_Seed]
) -> Iterator[Check]:
    never_ran = any(seed.never_ran for seed in seeds)
    for key in (key for key in row if key not in FROM_SPEC and key != "seeds"):
        if never_ran and key in UNKNOWN_BEFORE_START:
            yield Check(key, Verdict.underivable, row[key], reason=NOT_BEGUN)
        else:
            absence = _worst(seeds) or (_worst(baseline) if key in BESIDE_BASELINE else None)
            yield from _value_checks(key, row[key], derived.get(key), absence)


def _worst(seeds: Iterable[_Seed]) -> Check | None:
    """The worst absence, for a value that is made of all seeds."""
    absences = [seed.absence for seed in seeds if seed.absence]
    return max(absences, key=lambda absence: absence.verdict is Verdict.foreign, default=None)


def _seed_checks(
    derived: Row, seeds: Sequence[_Seed], experiments: Mapping[str, Sequence[Any]]
) -> Iterator[Check]:
    """Checks of the seeds of a row.

    Args:
        experiments: The experiments of the table that have a run, by its id.
    """
    derived_seeds = {seed["id"]: seed for seed in derived["seeds"]}
    ids = Counter(str(seed.values["id"]) for seed in seeds)
    for index, seed in enumerate(seeds):
        path, run_id = f"seeds[{index}]", str(seed.values["id"])
        if ids[run_id] > 1:
            reason = f"run {run_id[:12]} is listed {ids[run_id]} times"
            yield Check(f"{path}.id", Verdict.differs, run_id, reason=reason)
        if seed.never_ran:
            continue
        again = derived_seeds.get(run_id, {})
        for key, committed in seed.values.items():
            if key in BESIDE_THE_RUN:
                reason = BESIDE_THE_RUN[key]
                yield Check(f"{path}.{key}", Verdict.underivable, committed, reason=reason)
            else:
                found = _value_checks(f"{path}.{key}", committed, again.get(key), seed.absence)
                yield from (_allow_single(check, path, seed.facts) for check in found)
        if seed.seen and (name := seed.seen.run.experiment.name) not in experiments[run_id]:
            reason = f"the run is of {name}, which no row with it is of"
            yield Check(f"{path}.experiment", Verdict.differs, derived=name, reason=reason)
        for copy in seed.copies:
            place = f"runs/{copy.parent.name}/{copy.name}"
            yield Check(f"{path}.{place}", Verdict.underivable, reason=COPY)


def _allow_single(check: Check, seed: str, facts: Sequence[Fact]) -> Check:
    """The check of a value of the provenance, which one record of the run alone confirms nothing
    of.

    Args:
        seed: The key of the seed: seeds[0].
    """
    single = {f"{seed}.provenance.{fact.name}" for fact in facts if fact.is_single}
    if check.verdict is not Verdict.confirmed or not agreement.is_within(check.key, single):
        return check
    return replace(check, verdict=Verdict.underivable, reason=SINGLE)


def _lack_checks(document: Document, row: Row, derived: Row) -> Iterator[Check]:
    """Checks of values that the runs of a row have and its JSON lacks.

    Older tables had fewer values: those of an older format, and those in which no row has a column.
    """
    known = columns_of(document.get("columns", []))
    columns = {column.key for column in known}.difference(*document["rows"])
    again = {seed["id"]: seed for seed in derived["seeds"]}
    # named where a result is checked against its run
    unknown = {f"result.{key}" for seed in again.values() for key in _unknown(seed["result"] or {})}
    lacked = {key: key in columns for key in _lacked(row, derived)}
    for index, seed in enumerate(row["seeds"]):
        keys = _lacked(seed, again.get(seed["id"], {}))
        lacked |= {f"seeds[{index}].{key}": False for key in keys if key not in unknown}
    for key, is_younger in lacked.items():
        is_allowed = is_younger or _is_older(document)
        yield Check(key, Verdict.underivable if is_allowed else Verdict.differs, reason=LACKED)


def _lacked(committed: Row, derived: Row) -> Iterator[str]:
    """The paths of derived values whose key a part of the JSON lacks."""
    for key, value in derived.items():
        inner = committed.get(key)
        if key not in committed and key not in TRANSPORT:
            yield key
        elif isinstance(inner, dict) and isinstance(value, dict):
            yield from (f"{key}.{path}" for path in _lacked(inner, value))


def _unknown(result: Row) -> set[str]:
    """Keys of a `result.json` that no result has."""
    return set(result) - {key.removesuffix("?") for key in RESULT}


def _value_checks(key: str, committed: Any, derived: Any, absence: Check | None) -> Iterator[Check]:
    """A check for each committed value in a part of the JSON."""
    if isinstance(committed, dict) and (committed or not derived):
        inner = derived if isinstance(derived, dict) else {}
        for name, value in committed.items():
            if name in TRANSPORT:
                reason = TRANSPORT[name]
                yield Check(f"{key}.{name}", Verdict.underivable, value, reason=reason)
            else:
                yield from _value_checks(f"{key}.{name}", value, inner.get(name), absence)
    elif absence is None:
        yield compare(key, committed, derived, "{} in the table, {} by its runs")
    elif committed is not None:
        yield replace(absence, key=key, committed=committed)


NO_SPEC = "the spec of the table is not here"


def _spec_checks(
    row: Row, derived: Row, seeds: Sequence[_Seed], table: Table | None
) -> Iterator[Check]:
    """Names, labels, overrides and the paper's value against the table's spec."""
    if table is None:
        for key in sorted(FROM_SPEC):
            if row[key] is not None:
                yield Check(key, Verdict.underivable, row[key], reason=NO_SPEC)
        return
    same = [specified for specified in table.rows if _key(specified) == _key(_table_row(row))]
    if not same:
        yield Check("row", Verdict.differs, reason=f"tables/{table.name}.yaml has no such row")
        return
    difference = "{} in the table, {} in its spec"
    for key in ("group", "label", "experiment", "baseline"):
        yield compare(key, row[key], getattr(same[0], key), difference)
    for seed in seeds:
        if seed.seen:
            yield from _override_checks(same[0].overrides, seed.seen.run)
    paper = same[0].paper
    specified = {**stated(paper), "footnote": derived["paper"]["footnote"]} if paper else {}
    for key in {**(row["paper"] or {}), **specified}:
        committed = (row["paper"] or {}).get(key)
        yield compare(f"paper.{key}", committed, specified.get(key), difference)


def _key(row: TableRow) -> tuple[str | None, str, str]:
    return row.experiment, row.label, row.row_name


def _override_checks(overrides: Sequence[str], run: Run) -> Iterator[Check]:
    """Checks that a run has the values that its row is named and labelled after."""
    for key, value, found in contradictions(overrides, run.experiment):
        reason = f"{value} in the row's overrides, {found} in {run.name}"
        yield Check(f"overrides.{key}", Verdict.differs, value, found, reason)


FROM_TABLE_SPEC = {"name", "title", "caption", "figures", "related", "columns"}
"""Keys of the document that come from the table's spec."""
FROM_ALL_RUNS = {"caption", "notes", "seeds", "complete"}
"""Keys of the document that depend on each run of the table."""


def _table_checks(
    document: Document, again: Document, table: Table | None, seeds: Sequence[Sequence[_Seed]]
) -> Iterator[Check]:
    """Checks of what is said about the table as a whole: its notes, caption and data.

    Args:
        again: The document, made again from the runs that were found.
        seeds: Of each row.
    """
    all_seeds = [seed for of_row in seeds for seed in of_row]
    unknown = NOT_BEGUN if any(seed.never_ran for seed in all_seeds) or not all_seeds else ""
    unknown = "a run of it is not here" if _worst(all_seeds) else unknown
    for key in (key for key in document if key != "rows"):
        lacking = unknown if key in FROM_ALL_RUNS or key not in again else ""
        if reason := NO_SPEC if table is None and key in FROM_TABLE_SPEC else lacking:
            yield Check(key, Verdict.underivable, document[key], reason=reason)
        elif key == "notes":
            named = zip(document["rows"], seeds, strict=True)
            names = {f"{_name(row)} seed {one.values['seed']}" for row, of in named for one in of}
            yield from _note_checks(document[key], again[key], names)
        else:
            yield from _value_checks(key, document[key], again.get(key), None)
    if unknown == NOT_BEGUN and all_seeds:
        complete, difference = document.get("complete"), "{} in the table, {} by its rows"
        yield compare("complete", complete, False, difference)
    for key in (key for key in again if key not in document):
        # the first tables have no format, and no figures
        verdict = Verdict.underivable if _is_older(document) else Verdict.differs
        yield Check(key, verdict, reason=LACKED)
    rows = [_key(_table_row(row)) for row in document["rows"]]
    for row in table.rows if table else ():
        if _key(row) not in rows:
            reason = f"{row.label} of the table's spec is not among them"
            yield Check("rows", Verdict.differs, reason=reason)


def _note_checks(
    committed: Sequence[str], derived: Sequence[str], runs: Collection[str]
) -> Iterator[Check]:
    """Checks of notes; `runs` holds the names of the runs of the table."""
    of_then = [note for note in committed if captions.is_about_changed_data(note, runs)]
    of_now = [note for note in derived if captions.is_about_changed_data(note, runs)]
    for note in of_then:
        yield Check("notes", Verdict.underivable, note, reason=THEN)
    lasting = [note for note in committed if note not in of_then]
    again = [note for note in derived if note not in of_now]
    yield from _value_checks("notes", lasting, again, None)


def _run_checks(seed: _Seed, checkpoints: bool, more_checks: RunCheck | None) -> Iterator[Check]:
    name = f"seed {seed.values['seed']}"
    if seed.seen and seed.seen.result is not None:
        yield from run_checks(name, seed.seen, seed.facts, checkpoints=checkpoints)
        yield from more_checks(name, seed.seen) if more_checks else ()
    elif seed.seen and seed.values["result"] is not None:
        reason = seed.seen.problem or f"the run is {seed.seen.state.value}"
        yield Check(f"{name}: result.json", Verdict.differs, reason=reason)
