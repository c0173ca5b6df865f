"""The table of a sweep as a spec of its own, which asks for the same runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from antioversmooth import files
from antioversmooth.config import Table
from antioversmooth.constraints import NAME
from antioversmooth.errors import SpecError
from antioversmooth.runs import to_json
from antioversmooth.spec.commandline import split_sweeps
from antioversmooth.spec.request import Request
from antioversmooth.spec.source import shown
from antioversmooth.spec.sweep import changes_rows


@dataclass(frozen=True)
class TableFile:
    """The table of a sweep, as the file that it can be saved as."""

    path: Path
    text: str
    overrides: list[str]
    """Overrides that are no part of it: where and how its runs run."""

    def write(self) -> None:
        """Writes the file; one with the same rows stays.

        Raises:
            SpecError: There is another one.
        """
        self.path.parent.mkdir(exist_ok=True)
        try:
            with files.naming(self.path), self.path.open("x") as file:
                file.write(self.text)
        except FileExistsError:
            self.require_same()

    def require_same(self) -> None:
        """Raises SpecError where a file of that name has other rows, in whatever order."""
        if not self.path.exists():
            return
        own = _rows(yaml.safe_load(self.text))
        try:
            there = _rows(yaml.safe_load(self.path.read_text()))
        except (yaml.YAMLError, ValueError):
            there = {}
        for name in (*own, *there):
            if own.get(name) != there.get(name):
                raise SpecError(
                    f"there is another table of that name, which differs in row {name}; it is left"
                    " as it is. Choose another name, or remove it first",
                    where=shown(self.path),
                )


def table_file(request: Request, name: str) -> TableFile:
    """The file that the table of a sweep can be saved as; nothing is written.

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
    _require_free(name, request.folder)
    content = _content(request.tables[0])
    words = " ".join(override for override in request.overrides if changes_rows(override))
    text = f"# A sweep: {words}\n{yaml.safe_dump(content, sort_keys=False, width=100)}"
    if "${" in text:
        message = "an interpolation in an override would be of the table; write its value"
        raise SpecError(message, where=words)
    others = [override for override in fixed if not changes_rows(override)]
    made = TableFile(request.folder / "tables" / f"{name}.yaml", text, others)
    made.require_same()
    return made


def _require_free(name: str, folder: Path) -> None:
    where = f"--save-table {name}"
    if not re.fullmatch(NAME, name):
        expected = "at most 100 letters, digits, `_`, `-` and `.`, the first no `-` or `.`"
        raise SpecError(f"is no name of a table: {expected}", where=where)
    for kind in (".", "figures", "tables"):
        for other in (folder / kind).glob("*.yaml"):
            # some file systems take two names that differ in case for one
            is_of_name = other.stem.casefold() == name.casefold()
            if is_of_name and (kind, other.stem) != ("tables", name):
                raise SpecError(f"{shown(other)} has this name; choose another", where=where)


def _content(table: Table) -> dict[str, Any]:
    """The keys of a table and its rows that say something, the experiment of a row first."""
    rows = []
    for row in map(to_json, table.rows):
        first = {key: row[key] for key in ("experiment", "name")}
        rows.append({key: value for key, value in (first | row).items() if value})
    head = {"title": table.title, "caption": table.caption}
    return {**{key: value for key, value in head.items() if value}, "rows": rows}


def _rows(content: Any) -> dict[str, Any]:
    """The rows of the content of a table by their names; empty where it is no table."""
    rows = content.get("rows") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return {}
    return {_row_name(row): row for row in rows}


def _row_name(row: dict[str, Any]) -> str:
    """The name of a row; of one that only quotes its label."""
    label = f"{row.get('group', '')} {row.get('label', '')}".strip()
    return str(row.get("name") or row.get("experiment") or label)
