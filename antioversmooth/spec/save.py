"""The table of a sweep as a spec of its own, which asks for the same runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from antioversmooth.config import Table
from antioversmooth.config.constraints import NAME
from antioversmooth.errors import SpecError
from antioversmooth.runs import to_json
from antioversmooth.spec.commandline import split_sweeps
from antioversmooth.spec.request import Request
from antioversmooth.spec.source import shown
from antioversmooth.spec.sweep import changes_rows


def save_table(request: Request, name: str) -> tuple[Path, list[str]]:
    """Writes the table of a sweep.

    Returns its path, and the overrides that are no part of it: where and how its runs run.

    Raises:
        SpecError: The request is no sweep of one table, the name cannot be one, or there is
            another spec of that name.
    """
    fixed, axes = split_sweeps(request.overrides)
    if not axes or len(request.tables) != 1:
        raise SpecError(
            "saves the table of a sweep: name rows or one table, and give an override several"
            " values, as in recipe.base_lr=5e-4,1e-3",
            where=f"--save-table {name}",
        )
    path = request.folder / "tables" / f"{name}.yaml"
    _require_free(name, path)
    content = _content(request.tables[0])
    words = " ".join(override for override in request.overrides if changes_rows(override))
    text = f"# A sweep: {words}\n{yaml.safe_dump(content, sort_keys=False, width=100)}"
    if "${" in text:
        message = "an interpolation in an override would be of the table; write its value"
        raise SpecError(message, where=words)
    _write(path, text, content)
    return path, [override for override in fixed if not changes_rows(override)]


def _require_free(name: str, path: Path) -> None:
    where = f"--save-table {name}"
    if not re.fullmatch(NAME, name):
        expected = "at most 100 letters, digits, `_`, `-` and `.`, the first no `-` or `.`"
        raise SpecError(f"is no name of a table: {expected}", where=where)
    for other in (path.parents[1] / path.name, path.parents[1] / "figures" / path.name):
        if other.exists():
            raise SpecError(f"{shown(other)} has this name; choose another", where=where)


def _content(table: Table) -> dict[str, Any]:
    """The keys of a table and its rows that say something, the experiment of a row first."""
    rows = []
    for row in map(to_json, table.rows):
        first = {key: row[key] for key in ("experiment", "name")}
        rows.append({key: value for key, value in (first | row).items() if value})
    head = {"title": table.title, "caption": table.caption}
    return {**{key: value for key, value in head.items() if value}, "rows": rows}


def _write(path: Path, text: str, content: dict[str, Any]) -> None:
    """Writes a table; one with the same content stays.

    Raises:
        SpecError: There is another one.
    """
    path.parent.mkdir(exist_ok=True)
    try:
        with path.open("x") as file:
            file.write(text)
    except FileExistsError:
        try:
            same = yaml.safe_load(path.read_text()) == content
        except (yaml.YAMLError, ValueError):
            same = False
        if not same:
            message = "there is another table of that name; it is left as it is"
            raise SpecError(message, where=shown(path)) from None
