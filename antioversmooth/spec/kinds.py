"""Which kind of spec a file is: a row, a table, a figure, or a part of rows. The folder that it
lies in decides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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
    """What a file is that is none of the wanted kinds, and what to do with it; None where it is
    one."""
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
