"""A table or a figure: one file, no groups, checked; the rows that it names are loaded
elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from antioversmooth.config import Figure, Table
from antioversmooth.errors import SpecError
from antioversmooth.spec import source
from antioversmooth.spec.check import Reading, check
from antioversmooth.spec.compose import typed
from antioversmooth.spec.problems import Problem, did_you_mean
from antioversmooth.spec.rules import broken_rules

P = TypeVar("P", bound=Table | Figure)


def load(schema: type[P], path: Path) -> tuple[P | None, list[Problem]]:
    """The table or figure, or what is wrong with it."""
    read = source.read(path)
    if read.root is None or not isinstance(read.root.value, dict):
        what = f"a {schema.__name__.lower()} is a mapping with title and rows"
        return None, read.problems or [Problem(read.top, "", what)]
    reading = check(read.root, schema, partial=False)
    reading.problems[:0] = read.problems
    folder = path.parent.parent
    missing = [*_missing_rows(reading, folder), *_missing_figures(reading, folder)]
    if (
        not reading.problems
        and not missing
        and (page := _made(schema, {**reading.content, "name": path.stem}))
    ):
        return page, []
    return None, [*reading.problems, *broken_rules(schema, reading, read.top), *missing]


def _made(schema: type[P], content: dict[str, Any]) -> P | None:
    """The page, or None where a rule is broken."""
    try:
        return typed(schema, content)
    except SpecError:
        return None


def _missing_rows(reading: Reading, folder: Path) -> Iterator[Problem]:
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    for i, row in enumerate(reading.content.get("rows", [])):
        name, key = row.get("experiment"), f"rows[{i}].experiment"
        if name is not None and name not in known:
            message = (
                f"there is no row {folder.name}/{name}.yaml; {did_you_mean(Path(name).stem, known)}"
            )
            yield Problem(reading.places[key], key, message)


def _missing_figures(reading: Reading, folder: Path) -> Iterator[Problem]:
    """A table draws its figures when its rows are done, which is late to learn that there is none
    of that name."""
    known = sorted(path.stem for path in (folder / "figures").glob("*.yaml"))
    for i, name in enumerate(reading.content.get("figures", [])):
        if name not in known:
            message = (
                f"there is no figure {folder.name}/figures/{name}.yaml;"
                f" {did_you_mean(Path(name).stem, known)}"
            )
            yield Problem(reading.places[f"figures[{i}]"], f"figures[{i}]", message)
