"""A table as GitHub's Markdown, and the block of a README that holds it."""

from __future__ import annotations

import re
from pathlib import Path

from antioversmooth import files
from antioversmooth.errors import UserError
from antioversmooth.reporting.rendering import cells
from antioversmooth.reporting.table.document import Document

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~$]|&(?=#?\w+;))")


def render(document: Document) -> str:
    """The whole table: title, caption, rows, sources and notes."""
    parts = [
        f"### {escape(document['title'])}",
        " ".join(map(escape, document["caption"])),
        grid(document),
        "\n".join(f"- {escape(remark)}" for remark in cells.remarks(document)),
    ]
    return "\n\n".join(parts) + "\n"


def grid(document: Document) -> str:
    """Header and rows; a group's name stands in its first row only."""
    columns, rows = cells.table(document)
    header = [column.header for column in columns]
    rule = [":---" if column.value is None else "---:" for column in columns]
    lines = [
        list(map(escape, header)),
        rule,
        *([escape(text) for text in row] for row in cells.grouped(rows)),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def update_readme(path: Path, document: Document, *, may_lose: bool = False) -> bool:
    """Puts the table between `<!-- NAME:begin -->` and `<!-- NAME:end -->`; returns whether the
    file changed.

    Args:
        may_lose: Whether it may take the place of a table with more measured rows, of another
            profile, say.

    Raises:
        UserError: The file does not hold the two markers, once each and in order; or it would lose
            rows.
    """
    text = path.read_text()
    parts = _around(text, document)
    if parts is None:
        begin, end = _markers(document)
        raise UserError(f"{path}: needs one {begin} and, after it, one {end}")
    there, ours = _num_measured(parts[1]), _num_measured(render(document))
    if ours < there and not may_lose:
        raise UserError(
            f"{path} is left alone: its table has {there} measured rows, this one {ours}; {WAY_OUT}"
        )
    updated = f"{parts[0]}\n{render(document)}{parts[2]}"
    if updated != text:
        files.write_atomic(path, updated)
    return updated != text


WAY_OUT = "--allow-partial writes it nevertheless"


def _num_measured(text: str) -> int:
    """How many rows of a rendered table have an accuracy."""
    grid = [
        re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")
    ]
    header, rows = [cell.strip() for cell in grid[0]] if grid else [], grid[2:]
    if cells.ACCURACY not in header:
        return 0
    return sum(row[header.index(cells.ACCURACY)].strip() != cells.EMPTY for row in rows)


def block(text: str, document: Document) -> str | None:
    """What stands between the table's markers, where it is this very table: another profile has the
    same markers."""
    parts = _around(text, document)
    inside = parts[1].removeprefix("\n") if parts else ""
    return inside if inside.startswith(f"### {escape(document['title'])}\n") else None


def _markers(document: Document) -> tuple[str, str]:
    return f"<!-- {document['name']}:begin -->", f"<!-- {document['name']}:end -->"


def _around(text: str, document: Document) -> tuple[str, str, str] | None:
    """The text up to and with the first marker, between the two, and from the second; None unless
    each stands once."""
    begin, end = _markers(document)
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        return None
    start, stop = text.index(begin) + len(begin), text.index(end)
    return text[:start], text[start:stop], text[stop:]
