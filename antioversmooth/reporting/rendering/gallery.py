"""The pictures of a folder on one self-contained HTML page, with their notes and numbers."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from antioversmooth import files
from antioversmooth.errors import UserError, and_more, error_message
from antioversmooth.reporting.rendering import html
from antioversmooth.shapes import misfits

PAGE, TITLE = "index.html", "Figures"
FORMATS = ("csv", "json", "png", "svg")


def write_gallery(folder: Path, title: str = TITLE) -> Path:
    """Writes the page of the pictures of `analysis.drawing` in a folder; returns its path."""
    target = folder / PAGE
    files.write_atomic(target, render(title, folder))
    return target


def render(title: str, folder: Path) -> str:
    """The whole page. It fetches nothing, and its content security policy forbids to.

    Raises:
        UserError: The numbers of a picture are missing, or are not what is drawn here.
    """
    pictures = [_picture(path) for path in sorted(folder.glob("*.svg"))]
    return html.render("gallery.html", title=title, pictures=pictures)


_PANEL = {"title": str, "x_label": str, "y_label": str}
_NUMBERS = {"name": str, "title": str, "notes": [str], "panels": [_PANEL]}
"""The shape (shapes.py) of what the page reads of the JSON of a picture."""


def _picture(image: Path) -> dict[str, Any]:
    """The content of a picture's section, and the names of its files."""
    numbers = image.with_suffix(".json")
    try:
        value = files.read_json(numbers)
    except (ValueError, OSError) as err:
        raise UserError(f"{numbers} cannot be read: {error_message(err)}") from err
    if problems := list(misfits(value, _NUMBERS, numbers.name)):
        raise UserError(
            f"{numbers} is not what was drawn as {image.name}: {and_more(problems, 3)}; draw it"
            " again, or move both away"
        )
    beside = [(suffix, image.with_suffix(f".{suffix}")) for suffix in FORMATS]
    return {
        **value,
        "image": base64.b64encode(image.read_bytes()).decode(),
        "files": [(suffix.upper(), path.name) for suffix, path in beside if path.exists()],
    }
