"""A new row from an old one: the same choices, another name, and no expected number."""

from __future__ import annotations

import re
from pathlib import Path

from antioversmooth.errors import SpecError
from antioversmooth.spec.pages import kind
from antioversmooth.spec.request import load
from antioversmooth.spec.source import shown


def draft(name: str, origin: Path) -> Path:
    """Writes a row beside the one that it starts from; returns its path.

    Raises:
        SpecError: The name cannot be one, is taken, or `origin` is no row that loads.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_]*", name):
        raise SpecError(
            "a row's name is made of small letters, digits and _, as in deit_s12_attnscale",
            where=name,
        )
    if kind(origin) == "table":
        raise SpecError("a new row starts from a row, and this is a table", where=shown(origin))
    load([origin])
    path = origin.with_name(f"{name}.yaml")
    try:
        with path.open("x") as file:
            file.write(_renamed(origin.read_text(), origin.stem, name))
    except FileExistsError:
        raise SpecError(
            "there is a row of that name already; it is left as it is", where=shown(path)
        ) from None
    return path


def _renamed(text: str, old: str, new: str) -> str:
    """The text with another name, and without the number that the old row expects."""
    text = text.replace(f"experiments/{old}.yaml", f"experiments/{new}.yaml")
    text = re.sub(r"\A# .*", f"# {new}: {old}, changed", text)
    expected = f"# Expected: no number is known; see {old} for the row it started from"
    text = re.sub(r"^# Expected: .*", expected, text, flags=re.M)
    return re.sub(r"^title: .*", f'title: "{new}"', text, flags=re.M)
