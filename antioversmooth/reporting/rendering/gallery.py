"""The pictures of a folder on one self-contained HTML page, with their notes and numbers."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from antioversmooth import files
from antioversmooth.reporting.rendering import html

PAGE, TITLE = "index.html", "Figures"
FORMATS = ("csv", "json", "png", "svg")


def write_gallery(folder: Path, title: str = TITLE) -> Path:
    """Writes the page of the pictures of `analysis.drawing` in a folder; returns its path."""
    target = folder / PAGE
    files.write_atomic(target, render(title, folder))
    return target


def render(title: str, folder: Path) -> str:
    """The whole page. It fetches nothing, and its content security policy forbids to."""
    pictures = [_picture(path) for path in sorted(folder.glob("*.svg"))]
    return html.render("gallery.html", title=title, pictures=pictures)


def _picture(image: Path) -> dict[str, Any]:
    """The content of a picture's section, and the names of its files."""
    beside = [(suffix, image.with_suffix(f".{suffix}")) for suffix in FORMATS]
    return {
        **json.loads(image.with_suffix(".json").read_text()),
        "image": base64.b64encode(image.read_bytes()).decode(),
        "files": [(suffix.upper(), path.name) for suffix, path in beside if path.exists()],
    }
