"""Tables and figures: one file each, without groups; the rows that they name are loaded elsewhere.

The folder of a file decides whether it is a row, a table, a figure or a part of rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from antioversmooth.config import Figure, Table
from antioversmooth.errors import did_you_mean
from antioversmooth.spec import source
from antioversmooth.spec.build import to_config
from antioversmooth.spec.check import Reading, check
from antioversmooth.spec.problems import Problem

P = TypeVar("P", bound=Table | Figure)

FOLDERS = {"tables": "table", "figures": "figure"}
GROUPS = ("profile", "model", "data", "recipe", "cluster")
HOMES = {"row": "experiments/", "table": "experiments/tables/", "figure": "experiments/figures/"}


def kind(path: Path) -> str:
    """row, table, figure, or the group that a file is an option of."""
    for folder in path.absolute().parents:
        if folder.name in GROUPS and (folder.parent / "profile").is_dir():
            return folder.name
    return FOLDERS.get(path.parent.name, "row")


def misplaced(path: Path, wanted: Sequence[str]) -> str | None:
    """The error of a file that is of no wanted kind; None where it is of one."""
    if path.suffix != ".yaml":
        return "is no spec, which is a .yaml file, such as experiments/deit_s12.yaml"
    found = kind(path)
    if found in wanted:
        return None
    if found in GROUPS:
        option = path.absolute().with_suffix("").as_posix().rpartition(f"/{found}/")[2]
        return f"is a part of rows, and none by itself; name a row, and {found}={option} behind it"
    if found == "figure":
        return f"is a figure; `antioversmooth figures {path.stem}` draws it"
    return f"is a {found}, and a {wanted[0]} belongs here; they lie in {HOMES[wanted[0]]}"


def load_page(schema: type[P], path: Path) -> tuple[P | None, list[Problem]]:
    """The table or figure, or all that is wrong with it."""
    read = source.read_source(path)
    if read.root is None or not isinstance(read.root.value, dict):
        expected = f"a {schema.__name__.lower()} is a mapping with title and rows"
        return None, read.problems or [Problem(read.top, "", expected)]
    reading = check(read.root, schema, partial=False)
    reading.problems[:0] = read.problems
    reading.content["name"] = path.stem
    folder = path.parent.parent
    missing = [
        *_missing_rows(reading, folder),
        *_missing_pages(reading, folder, "figures", "figures"),
        *_missing_pages(reading, folder, "tables", "related"),
    ]
    page = to_config(schema, reading, read.top)
    return (None if missing else page), [*reading.problems, *missing]


def _missing_rows(reading: Reading, folder: Path) -> Iterator[Problem]:
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    for i, row in enumerate(reading.content.get("rows", [])):
        name, key = row.get("experiment"), f"rows[{i}].experiment"
        if name is not None and name not in known:
            hint = did_you_mean(Path(name).stem, known)
            message = f"there is no row {folder.name}/{name}.yaml; {hint}"
            yield Problem(reading.places[key], key, message)


def _missing_pages(reading: Reading, folder: Path, kind: str, key: str) -> Iterator[Problem]:
    """Problems with the names of figures or tables, which are read only when all rows are done."""
    known = sorted(path.stem for path in (folder / kind).glob("*.yaml"))
    for i, name in enumerate(reading.content.get(key, [])):
        if name not in known:
            hint = did_you_mean(Path(name).stem, known)
            message = f"there is no {FOLDERS[kind]} {folder.name}/{kind}/{name}.yaml; {hint}"
            yield Problem(reading.places[f"{key}[{i}]"], f"{key}[{i}]", message)
