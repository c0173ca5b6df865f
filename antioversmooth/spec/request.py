"""The rows and tables that a command line asks for, or one error with all their mistakes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from antioversmooth import runs
from antioversmooth.config import Experiment, Figure, Table
from antioversmooth.errors import SpecError, and_more
from antioversmooth.spec import fields
from antioversmooth.spec.commandline import key_of
from antioversmooth.spec.pages import kind, load_page, misplaced
from antioversmooth.spec.problems import Problem, did_you_mean
from antioversmooth.spec.rows import Rows
from antioversmooth.spec.source import exists, shown

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

    @property
    def changes_identity(self) -> bool:
        """Whether overrides make the rows other experiments than their specs say."""
        return any(fields.identifies(key_of(override)) for override in self.overrides)

    def upstream(self, name: str) -> Experiment:
        """The experiment of `init_from: run:<name>`, with the same profile, data and cluster."""
        known = {e.name: e for e in self.experiments}
        shared = [
            override
            for override in self.overrides
            if re.split("[./]", key_of(override))[0] in ("profile", "data", "cluster", "runtime")
        ]
        return known.get(name) or load_experiment(self.folder / f"{name}.yaml", shared)

    def plan(self, seeds: Sequence[int], results: Path) -> list[runs.Run]:
        """The runs of all experiments, those that others start from first.

        Args:
            results: The project's results folder; a profile other than the paper's own gets a
                folder in it.
        """
        return runs.plan(self.experiments, seeds, self.results(results), self.upstream)

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


def load(paths: Sequence[Path], overrides: Sequence[str] = ()) -> Request:
    """Loads rows and tables.

    Raises:
        SpecError: All mistakes in them, each with its place and the right value.
    """
    loader = _Loader(overrides)
    tables, rows, folder = [], [], Path("experiments")
    for path in loader.existing(paths, "row", "table"):
        if kind(path) == "row":
            rows.append(path)
            folder = path.parent
        elif table := loader.keep(load_page(Table, path), path):
            tables.append(table)
            folder = path.parent.parent
            rows += [folder / f"{row.experiment}.yaml" for row in table.rows if row.experiment]
            for figure in (folder / "figures" / f"{name}.yaml" for name in table.figures):
                # drawn when the rows are done, but checked now
                loader.keep(load_page(Figure, figure), figure)
    experiments = loader.rows(rows)
    loader.finish()
    return Request(experiments, tables, folder, tuple(overrides))


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """One row, composed and checked."""
    (experiment,) = load([path], overrides).experiments
    return experiment


def load_table(path: Path) -> Table:
    """One table, checked; its rows are not loaded."""
    return _load_page(Table, path)


def load_figure(path: Path, overrides: Sequence[str] = ()) -> tuple[Figure, Request]:
    """One figure, checked, and the request for the experiments of its rows."""
    figure = _load_page(Figure, path)
    folder = path.absolute().parent.parent
    request = load([folder / f"{row.experiment}.yaml" for row in figure.rows], overrides)
    _require_layers(figure, {row.name: row.model.depth for row in request.experiments})
    return figure, request


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


class _Loader:
    """Loads the specs of one request and collects their problems, each once."""

    def __init__(self, overrides: Sequence[str]) -> None:
        self.overrides = overrides
        self.problems: dict[Problem, list[str]] = {}
        """By problem the specs that have it: a group's file is part of many."""
        self.absent: list[SpecError] = []

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

    def rows(self, paths: Iterable[Path]) -> list[Experiment]:
        """The experiments of rows, each once."""
        readers: dict[Path, Rows] = {}
        loaded: dict[str, Experiment] = {}
        for path in dict.fromkeys(paths):
            if path.parent not in readers:
                readers[path.parent] = Rows(path.parent, self.overrides)
            if experiment := self.keep(readers[path.parent].load(path), path):
                loaded.setdefault(path.stem, experiment)
        return list(loaded.values())

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
