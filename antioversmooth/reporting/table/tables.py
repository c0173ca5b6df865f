"""The files of a table: written in every format, and compared with what is committed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from antioversmooth import files
from antioversmooth.errors import UserError, and_more, error_message
from antioversmooth.reporting.rendering import csv_file, gallery, latex, markdown, page
from antioversmooth.reporting.table import document as documents
from antioversmooth.reporting.table.columns import Row
from antioversmooth.reporting.table.document import Document, measured_seeds
from antioversmooth.shapes import misfits
from antioversmooth.spec import Request

FORMATS: dict[str, Callable[[Document], str]] = {
    "json": documents.dumps,
    "md": markdown.render,
    "tex": latex.render,
    "csv": csv_file.render,
    "html": page.render,
}


def write_table(document: Document, folder: Path, *, stem: str = "") -> list[Path]:
    """Writes the document in every format; returns the paths.

    Args:
        stem: Name of the files without ending; default: the name of the table.
    """
    paths = []
    for suffix, render in FORMATS.items():
        paths.append(folder / f"{stem or document['name']}.{suffix}")
        files.write_atomic(paths[-1], render(document))
    return paths


def load_committed(path: Path) -> Document:
    """Loads the JSON of a committed table, and makes sure that it can be rendered.

    Raises:
        UserError: There is no such file, or it is not the JSON of a table.
    """
    try:
        document = files.read_json(path)
    except (ValueError, RecursionError, OSError) as err:
        raise UserError(f"{path} cannot be read: {error_message(err)}") from err
    if document is None:
        raise UserError(f"there is no {path}; `antioversmooth table` writes it")
    if not isinstance(document, dict):
        raise UserError(f"{path} is not the JSON of a table")
    found = document.get("format", 1)
    if type(found) is not int or not 1 <= found <= documents.FORMAT:
        raise UserError(f"{path} has format {found!r:.40}, this code reads 1 to {documents.FORMAT}")
    if problems := list(islice(misfits(document, documents.shape()), 4)):
        raise UserError(f"{path} is not the JSON of a table: {and_more(problems, 3)}")
    try:
        for render in FORMATS.values():
            render(document)
    except (LookupError, TypeError, ValueError, ArithmeticError, RecursionError) as err:
        problem = f"it cannot be rendered ({err!r})"
        raise UserError(f"{path} is not the JSON of a table: {problem}") from err
    return document


def require_replaceable(document: Document, path: Path) -> None:
    """Makes sure that files beside the JSON of a table are renderings, before they are replaced.

    Raises:
        UserError: One of them does not begin as its rendering does.
    """
    for suffix, render in FORMATS.items():
        beside = path.with_suffix(f".{suffix}")
        is_input = beside == path
        if beside.exists() and not is_input and _text(beside)[:4] != render(document)[:4]:
            raise UserError(
                f"{beside} is not a rendering of a table, and would be replaced; move it away, or"
                f" render a copy of {path.name} elsewhere"
            )


def lost_rows(document: Document, folder: Path) -> list[str]:
    """Rows for which the folder's table has seeds that this one, which would replace it, lacks.

    This happens in a clone that has run little, or where other seeds are asked for. Rows that have
    left the table do not count.

    Raises:
        OSError, ValueError, TypeError, LookupError: There is no table, or it cannot be read.
    """
    existing = documents.load_document(folder / f"{document['name']}.json")
    before = {_key(row): measured_seeds(row) for row in existing["rows"]}
    return [
        str(row.get("row") or row["experiment"])
        for row in document["rows"]
        if before.get(_key(row), set()) - measured_seeds(row)
    ]


def _seeds_of_both(document: Document, folder: Path) -> str:
    """The seeds of this table and of the folder's, as `--seeds` takes them; empty where this one
    asks for all of them."""
    existing = documents.load_document(folder / f"{document['name']}.json")
    every = {*document["seeds"], *existing["seeds"]}
    return ",".join(map(str, sorted(every))) if every > set(document["seeds"]) else ""


def _key(row: Row) -> tuple[Any, ...]:
    return row["group"], row["label"], row["experiment"], row.get("row")


def loss_message(document: Document, folder: Path) -> str:
    """Why a table may not replace the one in a folder; empty where nothing would be lost."""
    try:
        lost = lost_rows(document, folder)
        seeds = _seeds_of_both(document, folder)
    except (OSError, ValueError, TypeError, LookupError):
        names = [f"{document['name']}.{suffix}" for suffix in FORMATS]
        existing = [name for name in names if (folder / name).exists()]
        if document["complete"] or not existing:
            return ""
        return (
            f"{folder} has {', '.join(existing)}, but their JSON is missing or torn, so the numbers"
            " that would be lost are not known"
        )
    if not lost:
        return ""
    if not documents.num_measured(document):
        return f"no row of it has run here, and {folder} has numbers"
    why = f"{folder} has numbers of seeds that are not in this one: of {and_more(lost, 3)}"
    return f"{why}; --seeds {seeds} asks for all" if seeds else why


def compare_renderings(document: Document, path: Path, readme: Path | None) -> dict[str, bool]:
    """Whether each existing file that is rendered from a committed JSON equals its rendering.

    Args:
        path: Path of the JSON; the other formats are beside it.
        readme: A file that may have the table between its markers.
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
    table = markdown.readme_table(_text(readme), document) if readme else None
    return (
        same
        if table is None
        else {**same, "README.md": table == markdown.render_for_readme(document)}
    )


def _text(path: Path) -> str:
    return path.read_bytes().decode(errors="replace")


def destination(request: Request, results: Path, output: Path | None = None) -> Path | None:
    """The folder that a request's tables are written to; None where they must not be written.

    Overrides that change the identity of the rows must not overwrite the committed table, so such
    tables are written only where `output` says. The tables of a sweep are named after what differs.

    Args:
        results: The project's results folder.
    """
    is_other = request.changes_identity and not request.is_sweep
    return output or (None if is_other else request.results(results))
