"""The rows and tables that a command line asks for, or one error with all their mistakes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

from antioversmooth import runs
from antioversmooth.config import Experiment, Figure, FigureRow, Table, TableRow
from antioversmooth.errors import SpecError, and_more, did_you_mean
from antioversmooth.spec import fields, naming
from antioversmooth.spec.commandline import COMMAND_LINE, Axis, key_of, merged, split_sweeps
from antioversmooth.spec.pages import kind, load_page, misplaced
from antioversmooth.spec.problems import Problem
from antioversmooth.spec.rows import Rows
from antioversmooth.spec.source import exists, shown
from antioversmooth.spec.sweep import Sweep, combinations, ordered

T = TypeVar("T")
P = TypeVar("P", bound=Table | Figure)


@dataclass(frozen=True)
class Request:
    """The tables that a command line asks for, and the experiments of its tables and rows."""

    experiments: list[Experiment]
    tables: list[Table]
    folder: Path
    """The experiments folder that the specs lie in."""
    overrides: tuple[str, ...]
    """As given on the command line."""
    changes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The overrides of single rows, which their tables or sweeps say, by the name of the row."""
    notes: Sequence[str] = ()
    """Sentences about what a user may not expect: of a sweep, of settings without an effect."""
    differences: tuple[str, ...] = ()
    """Parts of names that tell what a sweep changes; empty where it is none."""

    @property
    def changes_identity(self) -> bool:
        """Whether overrides make the rows other experiments than their specs say."""
        return any(fields.identifies(key_of(override)) for override in self.overrides)

    @property
    def is_sweep(self) -> bool:
        """Whether an override has several values, so that the request makes its tables itself."""
        return bool(self.differences)

    @cached_property
    def _of_spec(self) -> dict[str, list[Experiment]]:
        found: dict[str, list[Experiment]] = {}
        for experiment in self.experiments:
            found.setdefault(experiment.name, []).append(experiment)
        return found

    def upstream(self, row: Experiment, name: str) -> Experiment:
        """The experiment of `init_from: run:<name>` of a row.

        It has the overrides of the row if rows of its spec are asked for, too; else its profile,
        data and cluster.
        """
        changes, named = self.changes.get(row.row_name, ()), self._of_spec.get(name, ())
        for experiment in named:
            if self.changes.get(experiment.row_name, ()) == changes:
                return experiment
        overrides = merged(changes, split_sweeps(self.overrides)[0])
        shared = [text for text in overrides if re.split("[./]", key_of(text))[0] in _SHARED]
        return load_experiment(self.folder / f"{name}.yaml", overrides if named else shared)

    def plan(self, seeds: Sequence[int], results: Path) -> list[runs.Run]:
        """The runs of all experiments, those that others start from first.

        Args:
            results: The project's results folder; a profile other than the paper's own gets a
                folder in it.

        Raises:
            SpecError: Two rows of one spec are the same run.
        """
        planned: dict[str, runs.Run] = {}
        asked_for: dict[str, Experiment] = {}
        folder = self.results(results)
        for experiment in self.experiments:
            for run in self.plan_row(experiment, seeds, folder):
                if run.experiment is not experiment:
                    planned.setdefault(run.id, run)
                elif run.id not in asked_for:
                    # with its own name, although a row before may need it
                    planned[run.id], asked_for[run.id] = run, experiment
                elif asked_for[run.id].name == experiment.name:
                    rows = f"{asked_for[run.id].row_name} and {experiment.row_name}"
                    raise SpecError("are the same run: what differs has no effect", where=rows)
        return list(planned.values())

    def plan_row(
        self, experiment: Experiment, seeds: Sequence[int], folder: Path
    ) -> list[runs.Run]:
        """The runs of one of the experiments, after those that they need.

        Args:
            folder: As `results` gives it.
        """
        return runs.plan([experiment], seeds, folder, partial(self.upstream, experiment))

    def results(self, results: Path) -> Path:
        """Folder of runs and tables; profiles other than the paper's have their own."""
        chosen = {(e.profile, e.cluster.results) for e in self.experiments}
        if len(chosen) > 1:
            raise SpecError(
                "rows of different profiles or result folders cannot be one request:"
                f" {sorted(chosen)}"
            )
        profile, moved = chosen.pop()
        base = Path(moved).expanduser().absolute() if moved else results
        if base.is_file():
            raise SpecError(
                "is a file, and a folder for runs and tables belongs here",
                where=f"cluster.results={moved}",
            )
        return runs.profile_folder(base, profile)


_SHARED = ("profile", "data", "cluster", "runtime")
"""Keys whose overrides go over to rows that a row starts from."""


def load(paths: Sequence[Path], overrides: Sequence[str] = ()) -> Request:
    """Loads rows and tables; where an override has several values, tables of all combinations.

    Raises:
        SpecError: All mistakes in them, each with its place and the right value.
    """
    fixed, axes = split_sweeps(overrides)
    loader = _Loader(fixed)
    tables: list[Table] = []
    asked_for: list[_Asked] = []
    rows, folder = [], Path("experiments")
    for path in loader.existing(paths, "row", "table"):
        if kind(path) == "row":
            rows.append(path)
            asked_for.append(_Asked(path, path.stem))
            folder = path.parent
        elif table := loader.keep(load_page(Table, path), path):
            tables.append(table)
            folder = path.parent.parent
            asked_for += _rows_of(table, path)
            for figure in (folder / "figures" / f"{name}.yaml" for name in table.figures):
                # drawn when the rows are done, but checked now
                loader.keep(load_page(Figure, figure), figure)
    asked_for = _each_once(asked_for)
    notes: Sequence[str] = ()
    differences: tuple[str, ...] = ()
    if axes:
        sweep = loader.sweep(asked_for, ordered(axes), overrides)
        bases = [*tables, *([_table_of(rows, sweep)] if rows else [])]
        tables = [sweep.table(base) for base in bases]
        experiments = list(sweep.experiments.values())
        made = [row for table in tables for row in table.rows]
        changes = {row.row_name: tuple(row.overrides) for row in made if row.overrides}
        notes, differences = sweep.notes, sweep.differences
    else:
        experiments = loader.rows(asked_for)
        changes = {row.name: row.overrides for row in asked_for if row.overrides}
    loader.finish()
    notes = [*notes, *loader.notes]
    return Request(experiments, tables, folder, tuple(overrides), changes, notes, differences)


def _rows_of(table: Table, path: Path) -> Iterator[_Asked]:
    folder = path.parent.parent
    for row in table.rows:
        if row.experiment:
            source = f"{shown(path)}, row {row.row_name}"
            spec = folder / f"{row.experiment}.yaml"
            yield _Asked(spec, row.row_name, tuple(row.overrides), source)


def _each_once(asked_for: Sequence[_Asked]) -> list[_Asked]:
    """The rows by their names.

    Raises:
        SpecError: Two rows have one name, and different overrides.
    """
    found: dict[str, _Asked] = {}
    for row in asked_for:
        same = found.setdefault(row.name, row)
        if (same.path.stem, same.overrides) != (row.path.stem, row.overrides):
            places = " and ".join(filter(None, [same.source, row.source]))
            raise SpecError("two different rows have this name", where=f"{places}: {row.name}")
    return list(found.values())


def _table_of(paths: Sequence[Path], sweep: Sweep) -> Table:
    """A table of the rows that are named by themselves."""
    names = [*dict.fromkeys(path.stem for path in paths)]
    titles = [sweep.title(name) for name in names]
    rows = [
        TableRow(label="", experiment=name, group=title)
        for name, title in zip(names, titles, strict=True)
    ]
    return Table(naming.join(names), "; ".join(titles), rows=rows)


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """One row, composed and checked; an override with several values is refused."""
    loader = _Loader(overrides)
    found = loader.existing([path], "row", "table")
    rows = loader.rows([_Asked(row, row.stem) for row in found])
    loader.finish()
    (experiment,) = rows
    return experiment


def load_table(path: Path) -> Table:
    """One table, checked; its rows are not loaded."""
    return _load_page(Table, path)


def load_figure(path: Path, overrides: Sequence[str] = ()) -> tuple[Figure, Request]:
    """One figure, checked, and the request for the experiments of its rows.

    Where an override has several values, each row is drawn in all combinations.
    """
    figure = _load_page(Figure, path)
    folder = path.absolute().parent.parent
    request = load([folder / f"{row.experiment}.yaml" for row in figure.rows], overrides)
    if request.is_sweep:
        figure = _swept_figure(figure, request)
    _require_layers(figure, {row.row_name: row.model.depth for row in request.experiments})
    return figure, request


def _swept_figure(figure: Figure, request: Request) -> Figure:
    """The figure with the rows of a sweep, and without published curves."""
    (table,) = request.tables
    rows, names = [], {}
    for row in figure.rows:
        variants = [one for one in table.rows if one.experiment == row.experiment]
        names[row.experiment] = [one.row_name for one in variants]
        for one in variants:
            label = row.label if one.row_name == row.experiment else f"{row.label}, {one.label}"
            rows.append(FigureRow(one.row_name, label))
    panels = [
        replace(panel, rows=[one for name in panel.rows for one in names[name]], references=[])
        for panel in figure.panels
    ]
    name = naming.join([figure.name, *request.differences])
    return replace(figure, name=name, rows=rows, panels=panels)


def _require_layers(figure: Figure, depths: Mapping[str, int]) -> None:
    """Refuses layers that a row of a panel does not have."""
    errors = []
    for index, panel in enumerate(figure.panels):
        depth = min(depths[name] for name in panel.rows or depths)
        beyond = [layer for layer in panel.layers if not -depth <= layer <= depth]
        if beyond:
            right = f"its rows have {depth} layers; from the end they are -1 to -{depth}"
            where = f"{figure.name}: panels[{index}].layers"
            errors.append(SpecError(f"{beyond} is not possible: {right}", where=where))
    if errors:
        raise SpecError.together(errors)


def _load_page(schema: type[P], path: Path) -> P:
    loader = _Loader(())
    wanted = schema.__name__.lower()
    found = loader.existing([path], wanted)
    made = [loader.keep(load_page(schema, one), one) for one in found]
    loader.finish()
    (page,) = made
    # else there were problems
    assert page is not None
    return page


@dataclass(frozen=True)
class _Asked:
    """A row that a request asks for."""

    path: Path
    name: str
    overrides: tuple[str, ...] = ()
    source: str = ""
    """Where these are written, for messages."""


class _Loader:
    """Loads the specs of one request and collects their problems, each once."""

    def __init__(self, overrides: Sequence[str]) -> None:
        self.overrides = overrides
        self.problems: dict[Problem, list[str]] = {}
        """By problem the specs that have it: a group's file is part of many."""
        self.absent: list[SpecError] = []
        self.readers: dict[Path, Rows] = {}
        self.idle: dict[str, Counter[str]] = {}
        """How often each setting had no effect in a row, by the name of the row."""
        self.loads: Counter[str] = Counter()

    def existing(self, paths: Iterable[Path], *wanted: str) -> list[Path]:
        """The files behind paths, those that exist and are of a wanted kind."""
        return [found for path in paths if (found := self.find(path, wanted)) is not None]

    def find(self, path: Path, wanted: Sequence[str]) -> Path | None:
        for candidate in (path, path.with_name(path.name + ".yaml")):
            if exists(candidate):
                if wrong := misplaced(candidate, wanted):
                    self.absent.append(SpecError(wrong, where=shown(candidate)))
                    return None
                return candidate.absolute()
        beside = sorted(p.stem for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        hint = did_you_mean(path.stem, beside)
        self.absent.append(SpecError(f"there is no such spec; {hint}", where=str(path)))
        return None

    def rows(self, asked_for: Iterable[_Asked]) -> list[Experiment]:
        """The experiments of rows that have no problems."""
        found = [(row, self.row(row, row.overrides, row.source)) for row in asked_for]
        return [
            replace(experiment, row=row.name) if row.name != experiment.name else experiment
            for row, experiment in found
            if experiment
        ]

    def row(self, row: _Asked, overrides: Sequence[str], source: str) -> Experiment | None:
        """The experiment of a row with overrides of its own."""
        folder = row.path.parent
        if folder not in self.readers:
            self.readers[folder] = Rows(folder, self.overrides)
        rows = self.readers[folder]
        rows = rows.changed(overrides, source) if overrides else rows
        found = rows.load(row.path)
        self.loads[row.name] += 1
        self.idle.setdefault(row.name, Counter()).update(found.idle)
        return self.keep((found.experiment, found.problems), row.path)

    @property
    def notes(self) -> list[str]:
        """Sentences about settings that have no effect in a row, in whatever combination."""
        rows: dict[str, list[str]] = {}
        for row, counts in self.idle.items():
            for setting, count in counts.items():
                if count == self.loads[row]:
                    rows.setdefault(setting, []).append(row)
        return [
            f"{and_more(names, 3)}: {setting} without effect" for setting, names in rows.items()
        ]

    def sweep(
        self, asked_for: Sequence[_Asked], axes: Sequence[Axis], overrides: Sequence[str]
    ) -> Sweep:
        """The rows in all combinations of the axes.

        Args:
            overrides: All of the command line.

        Raises:
            SpecError: All problems so far.
        """
        found = {
            (row.name, one): self.row(row, merged(row.overrides, one), COMMAND_LINE)
            for one in combinations(axes, overrides, len(asked_for))
            for row in asked_for
        }
        self.finish()
        return Sweep(axes, self.overrides, {key: made for key, made in found.items() if made})

    def keep(self, loaded: tuple[T | None, list[Problem]], path: Path) -> T | None:
        value, problems = loaded
        for problem in problems:
            self.problems.setdefault(problem, []).append(shown(path))
        return value

    def finish(self) -> None:
        """Raises the collected problems."""
        sources = [problem.place.source for problem in self.problems]
        found = sorted(self.problems, key=lambda p: (sources.index(p.place.source), p.place.line))
        errors = [*self.absent, *(SpecError(_with_specs(p, self.problems[p])) for p in found)]
        if errors:
            raise SpecError.together(errors)


def _with_specs(problem: Problem, specs: list[str]) -> str:
    """A problem, with the specs that have it where it is not in their own file."""
    others = [spec for spec in specs if spec != problem.place.source]
    if not others:
        return str(problem)
    return f"{problem}\n       = in {and_more(others, 1)}"
