"""The pictures of a folder on one HTML page that needs nothing else, each with its notes and its
numbers."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from antioversmooth import files

PAGE, TITLE = "index.html", "Figures"
STYLE = "img { display: block; max-width: 100%; height: auto; background: #ffffff; }"


def write(folder: Path, title: str = TITLE) -> Path:
    """Writes the page of all pictures that `analysis.drawing.write` left in a folder; returns its
    path."""
    target = folder / PAGE
    files.write_atomic(target, render(title, folder))
    return target


def render(title: str, folder: Path) -> str:
    """The whole page. Nothing in it is fetched, and its policy forbids that anything is."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    style = resources.files(__package__).joinpath("page.css").read_text()
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>",
        f"<style>\n{style}{STYLE}\n</style>",
        f"<h1>{escape(title)}</h1>",
        *(_picture(path) for path in sorted(folder.glob("*.svg"))),
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def _picture(image: Path) -> str:
    """A picture with its notes, and links to the files beside it."""
    picture = json.loads(image.with_suffix(".json").read_text())
    data = base64.b64encode(image.read_bytes()).decode()
    lines = [
        f'<section id="{escape(picture["name"])}">',
        f"<h2>{escape(picture['title'])}</h2>",
        f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(_described(picture))}">',
        *(f"<p>{escape(note)}</p>" for note in picture["notes"]),
        f"<p>{', '.join(_links(image))}</p>",
        "</section>",
    ]
    return "\n".join(lines)


def _described(picture: dict[str, Any]) -> str:
    """The picture in words, for those who do not see it."""
    panels = [
        f"{panel['title']} ({panel['y_label']} by {panel['x_label']})"
        for panel in picture["panels"]
    ]
    return f"{picture['title']}: {'; '.join(panels)}"


def _links(image: Path) -> Iterator[str]:
    beside = ((suffix, image.with_suffix(f".{suffix}")) for suffix in ("csv", "json", "png", "svg"))
    return (
        f'<a href="{escape(path.name)}">{suffix.upper()}</a>'
        for suffix, path in beside
        if path.exists()
    )
