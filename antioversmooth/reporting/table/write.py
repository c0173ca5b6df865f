"""The files of a table: rendered in every format, written whole."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from antioversmooth import files
from antioversmooth.reporting.rendering import csv_file, gallery, latex, markdown, page
from antioversmooth.reporting.table import document as documents
from antioversmooth.reporting.table.document import Document
from antioversmooth.spec import Request

FORMATS: dict[str, Callable[[Document], str]] = {
    "json": documents.dumps,
    "md": markdown.render,
    "tex": latex.render,
    "csv": csv_file.render,
    "html": page.render,
}


def write(document: Document, folder: Path) -> list[Path]:
    """Writes the document in every format; returns the paths."""
    paths = []
    for suffix, render in FORMATS.items():
        paths.append(folder / f"{document['name']}.{suffix}")
        files.write_atomic(paths[-1], render(document))
    return paths


def losses(document: Document, folder: Path) -> list[str]:
    """Rows that have numbers of seeds in the folder's table that they have not in this one, which
    would take its place.

    As in a clone that has run little, or where other seeds are asked for. Rows that left the table
    are no loss.

    Raises:
        OSError, ValueError, TypeError, LookupError: There is no table, or it cannot be read.
    """
    there = documents.load(folder / f"{document['name']}.json")
    before = {_key(row): _measured_seeds(row) for row in there["rows"]}
    return [
        str(row["experiment"])
        for row in document["rows"]
        if before.get(_key(row), set()) - _measured_seeds(row)
    ]


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["group"], row["label"], row["experiment"]


def _measured_seeds(row: dict[str, Any]) -> set[int]:
    """The seeds that the accuracy of a row is of."""
    return (
        {seed["seed"] for seed in row["seeds"] if seed["state"] == "done"} if row["top1"] else set()
    )


def kept_for(document: Document, folder: Path) -> str:
    """Why a table is not written over the one in a folder; empty where nothing would be lost."""
    try:
        lost = losses(document, folder)
    except (OSError, ValueError, TypeError, LookupError):
        left = [
            f"{document['name']}.{suffix}"
            for suffix in FORMATS
            if (folder / f"{document['name']}.{suffix}").exists()
        ]
        if document["complete"] or not left:
            return ""
        return (
            f"{folder} holds {', '.join(left)}, and what numbers they have cannot be told: the JSON"
            " is missing or torn"
        )
    if not lost:
        return ""
    if not any(row["top1"] for row in document["rows"]):
        return f"nothing of it has run here, and {folder} has its numbers"
    more = f" and {len(lost) - NAMED} more" if len(lost) > NAMED else ""
    return (
        f"{folder} has numbers of seeds that are not in this one: of"
        f" {', '.join(lost[:NAMED])}{more}"
    )


NAMED = 3
"""Rows that a message names."""


def compare(document: Document, path: Path, readme: Path | None) -> dict[str, bool]:
    """The files that are made from a committed JSON, those that are there, and whether they are
    what it renders to.

    Args:
        path: Of the JSON; the other formats lie beside it.
        readme: A file that may hold the table between its markers.
    """
    beside = {path.with_suffix(f".{suffix}"): render for suffix, render in FORMATS.items()}
    same = {
        other.name: _text(other) == render(document)
        for other, render in beside.items()
        if other.is_file()
    }
    pictures = path.parent / "figures"
    if document.get("figures") and (pictures / gallery.PAGE).is_file():
        same[f"figures/{gallery.PAGE}"] = _text(pictures / gallery.PAGE) == gallery.render(
            gallery.TITLE, pictures
        )
    block = markdown.block(_text(readme), document) if readme else None
    return same if block is None else {**same, "README.md": block == markdown.render(document)}


def _text(path: Path) -> str:
    return path.read_bytes().decode(errors="replace")


_KEEPS_SCIENCE = re.compile(r"[+~]*(profile|cluster|runtime|data\.root|data\.max_corrupt)\b")


def destination(request: Request, results: Path, output: Path | None = None) -> Path | None:
    """The folder that a request's tables are written to; None where they must not be.

    Overrides that make the rows other experiments than their specs say must not overwrite the
    committed table, so their tables are written only where `output` says.

    Args:
        results: The project's results folder.
    """
    return output or (None if alters_science(request) else request.results(results))


def alters_science(request: Request) -> bool:
    """Whether overrides make the rows other experiments than their specs say."""
    return any(not _KEEPS_SCIENCE.match(override) for override in request.overrides)
