"""The files of a table: rendered in every format, written whole."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from antioversmooth import files
from antioversmooth.reporting import document as documents
from antioversmooth.reporting import gallery, latex, markdown, page, sheet
from antioversmooth.reporting.document import Document
from antioversmooth.spec import Request

FORMATS: dict[str, Callable[[Document], str]] = {
    "json": documents.dumps,
    "md": markdown.render,
    "tex": latex.render,
    "csv": sheet.render,
    "html": page.render,
}


def write(document: Document, folder: Path) -> list[Path]:
    """Writes the document in every format; returns the paths."""
    paths = []
    for suffix, render in FORMATS.items():
        paths.append(folder / f"{document['name']}.{suffix}")
        files.write_atomic(paths[-1], render(document))
    return paths


def would_empty(document: Document, folder: Path) -> bool:
    """Whether a table without a number would take the place of one with numbers: as in a clone that has run nothing."""
    if any(row["top1"] for row in document["rows"]):
        return False
    try:
        there = documents.load(folder / f"{document['name']}.json")
        return any(row["top1"] for row in there["rows"])
    except (OSError, ValueError, TypeError, LookupError):  # none, or nothing that anybody would miss
        return False


def compare(document: Document, path: Path, readme: Path | None) -> dict[str, bool]:
    """The files that are made from a committed JSON, those that are there, and whether they are what it renders to.

    Args:
        path: Of the JSON; the other formats lie beside it.
        readme: A file that may hold the table between its markers.
    """
    beside = {path.with_suffix(f".{suffix}"): render for suffix, render in FORMATS.items()}
    same = {other.name: _text(other) == render(document) for other, render in beside.items() if other.is_file()}
    pictures = path.parent / "figures"
    if document.get("figures") and (pictures / gallery.PAGE).is_file():
        same[f"figures/{gallery.PAGE}"] = _text(pictures / gallery.PAGE) == gallery.render(gallery.TITLE, pictures)
    block = markdown.block(_text(readme), document) if readme else None
    return same if block is None else {**same, "README.md": block == markdown.render(document)}


def _text(path: Path) -> str:
    return path.read_bytes().decode(errors="replace")


_KEEPS_SCIENCE = re.compile(r"[+~]*(profile|cluster|runtime|data\.root|data\.max_corrupt)\b")


def destination(request: Request, results: Path, output: Path | None = None) -> Path | None:
    """The folder that a request's tables are written to; None where they must not be.

    Overrides that make the rows other experiments than their specs say must not overwrite the committed table, so
    their tables are written only where `output` says.

    Args:
        results: The project's results folder.
    """
    return output or (None if alters_science(request) else request.results(results))


def alters_science(request: Request) -> bool:
    """Whether overrides make the rows other experiments than their specs say."""
    return any(not _KEEPS_SCIENCE.match(override) for override in request.overrides)
