"""The specs and runs that arguments name, and what handlers share."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from antioversmooth import files, spec
from antioversmooth.cli.parsers import is_run_directory, split_overrides
from antioversmooth.config import Experiment, Table
from antioversmooth.errors import SpecError
from antioversmooth.project import find_root, find_spec, readable_root
from antioversmooth.runs import Run
from antioversmooth.spec import Request


def load_request(words: Sequence[str]) -> tuple[Request, Path]:
    """The request that specs and overrides make, and the project's results folder.

    Raises:
        SpecError: All mistakes in them.
    """
    root = find_root()
    specs, overrides = split_overrides(words)
    paths = [find_spec(word, root) for word in specs]
    if not paths:
        question = "which row or table? for example deit_s12, or table2"
        raise SpecError(question, where=" ".join(words))
    return spec.load(paths, overrides), root / "results"


def load_tables_request(words: Sequence[str]) -> tuple[Request, Path]:
    """The same of a request that must name tables.

    Raises:
        SpecError: All mistakes in them, or there is no table among them.
    """
    request, results = load_request(words)
    if not request.tables:
        message = f"names no table; tables lie in {request.folder}/tables"
        raise SpecError(message, where=" ".join(words))
    return request, results


def project_tables() -> list[Table]:
    """All tables of the project."""
    folder = find_root() / "experiments" / "tables"
    return [spec.load_table(path) for path in sorted(folder.glob("*.yaml"))]


def load_runs(words: Sequence[str]) -> list[Run] | None:
    """The runs of run directories; None unless every word is one."""
    directories = [Path(word) for word in words if is_run_directory(word)]
    return [Run.load(path) for path in directories] if len(directories) == len(words) else None


def load_run(words: Sequence[str], seed: int, row: str | None = None) -> Run:
    """The run of a run directory, or of a row and a seed.

    Args:
        row: Name of the row, where the words name several: a table, or a sweep.

    Raises:
        SpecError: It is not one row, or the row has never been launched with these overrides.
    """
    if len(words) == 1 and (runs := load_runs(words)):
        return runs[0]
    request, results = load_request(words)
    experiment = _one_row(request, words, row)
    run = request.plan_row(experiment, [seed], request.results(results))[-1]
    if not run.dir.exists():
        siblings = f"runs/{run.experiment.name}/seed{run.seed}-*"
        others = sorted([*results.glob(siblings), *results.glob(f"*/{siblings}")])
        hint = f"; name the one that you mean: {', '.join(map(str, others))}" if others else ""
        message = f"seed {seed} has never been launched like this{hint}"
        raise SpecError(message, where=" ".join(words))
    return run


def _one_row(request: Request, words: Sequence[str], name: str | None) -> Experiment:
    """The row of a request that has a name, or its only one."""
    rows = {experiment.row_name: experiment for experiment in request.experiments}
    if name is None and len(rows) == 1:
        (name,) = rows
    if name not in rows:
        wrong = f"has no row {name}" if name else "names several rows"
        message = f"{wrong}; choose one with --row: {', '.join(rows)}"
        raise SpecError(message, where=" ".join(words))
    return rows[name]


def load_row(name: str | None, overrides: Sequence[str]) -> Experiment | None:
    """The row that `--spec` names; None where it is that of the run that the weights belong to."""
    if name:
        return spec.load_experiment(find_spec(name, readable_root()), overrides)
    if overrides:
        message = "changes a row, and none is named; add --spec ROW"
        raise SpecError(message, where=" ".join(overrides))
    return None


def print_json(value: Any) -> None:
    """Prints what programs read."""
    print(files.to_json(value))


def report_written(paths: Sequence[Path], *, as_json: bool) -> None:
    """Names the files that were written: for people on stderr, else as a JSON list."""
    if as_json:
        print_json([str(path) for path in paths])
    else:
        print(f"written: {', '.join(map(str, paths))}", file=sys.stderr)


def run_fields(run: Run) -> dict[str, str | int]:
    """The fields that identify a run in JSON output."""
    named = {"experiment": run.experiment.name, "row": run.experiment.row_name}
    return {**named, "seed": run.seed, "id": run.id, "dir": str(run.dir)}
