"""The batch scripts of a plan by shape: runs whose scripts differ in names and paths alone."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from antioversmooth.errors import and_more

NAMES_SHOWN = 12
"""Runs of a shape that are named."""
PlannedRun = dict[str, Any]
"""One of `runs` in the plan of a launch."""


@dataclass
class Shape:
    """Runs whose scripts are the same but for names and paths."""

    script: str
    """With placeholders for names and paths."""
    runs: list[PlannedRun] = field(default_factory=list)


def shapes(runs: Sequence[PlannedRun]) -> list[Shape]:
    """The shapes of the scripts of a plan, in the order of its runs."""
    found: dict[str, Shape] = {}
    for run in runs:
        if run["sbatch_script"]:
            script = _without_names(run)
            found.setdefault(script, Shape(script)).runs.append(run)
    return list(found.values())


def _without_names(run: PlannedRun) -> str:
    """The script of a run, with placeholders for the name of its job and for its directory."""
    script = run["sbatch_script"].replace(str(Path(run["dir"]).absolute()), "RUN")
    return re.sub(r"(?m)^(#SBATCH --job-name=).*$", r"\1NAME", script)


def one_of_each_shape(runs: Sequence[PlannedRun]) -> Iterator[str]:
    """The script of the first run of each shape, the runs that share it, and what differs."""
    found = shapes(runs)
    for shape in found:
        first, *others = shape.runs
        yield _headed(first)
        if others:
            names = and_more([run_name(run) for run in others], NAMES_SHOWN)
            yield f"----- the same but for names and paths: {names}\n"
        if shape is not found[0]:
            differences = "\n".join(_differences(found[0], shape))
            yield f"----- differs from that of {run_name(found[0].runs[0])} in\n{differences}\n"


def all_scripts(runs: Sequence[PlannedRun]) -> Iterator[str]:
    """The script of each run."""
    return (_headed(run) for run in runs if run["sbatch_script"])


def _headed(run: PlannedRun) -> str:
    return f"\n----- {run_name(run)}: sbatch script\n{run['sbatch_script']}"


def run_name(run: PlannedRun) -> str:
    """Name of a run of a plan, for people: deit_s12 seed 0."""
    return f"{run['row']} seed {run['seed']}"


def _differences(one: Shape, other: Shape) -> Iterator[str]:
    """The lines of two shapes that differ, with - those of the first and with + of the other."""
    lines = difflib.unified_diff(
        one.script.splitlines(), other.script.splitlines(), n=0, lineterm=""
    )
    for number, line in enumerate(lines):
        # the first two lines name files; those with @@ give places
        if number > 1 and not line.startswith("@@"):
            yield line
