"""A table as GitHub's Markdown, and the block of a README that contains it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from antioversmooth import files
from antioversmooth.errors import UserError
from antioversmooth.reporting.rendering import cells
from antioversmooth.reporting.table.columns import Column
from antioversmooth.reporting.table.document import Document, num_measured
from antioversmooth.text import one_line

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~$]|&(?=#?\w+;))")


def render(document: Document) -> str:
    """The whole table: title, caption, rows, sources and notes."""
    return _page(document, cells.shown_columns(document))


def render_for_readme(document: Document) -> str:
    """The table with the columns that a README has room for."""
    return _page(document, cells.printed_columns(document))


def _page(document: Document, columns: list[Column]) -> str:
    parts = [
        f"### {escape(document['title'])}",
        " ".join(map(escape, document["caption"])),
        _grid(document, columns),
        "\n".join(f"- {escape(remark)}" for remark in cells.remarks(document)),
    ]
    return "\n\n".join(parts) + "\n"


def _grid(document: Document, columns: list[Column]) -> str:
    """Header and rows."""
    lines = [
        list(map(escape, cells.headings(document, columns))),
        [":---" if column.sort is None else "---:" for column in columns],
        *(list(map(escape, row)) for row in cells.grid(document, columns)),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    return _SPECIAL.sub(r"\\\1", one_line(text))


# -- README ----------------------------------------------------------------------------------------

ALLOW_LOSS = "--allow-partial writes it nevertheless"


@dataclass(frozen=True)
class Block:
    """The part of a README between `<!-- NAME:begin -->` and `<!-- NAME:end -->`.

    The first marker records which table is in it, as `<!-- NAME:begin mini 12 -->`.
    """

    before: str
    table: str
    """The Markdown between the markers."""
    after: str
    profile: str
    """Profile of the table; empty while there is none."""
    num_measured: int
    """Its rows that have an accuracy."""

    @classmethod
    def find(cls, text: str, name: str) -> Block | None:
        """The block of a table; None unless each marker is there once, in order."""
        begin = re.compile(rf"<!-- {re.escape(name)}:begin(?: (\w+) (\d+))? -->")
        end = f"<!-- {name}:end -->"
        starts = list(begin.finditer(text))
        if len(starts) != 1 or text.count(end) != 1 or text.index(end) < starts[0].end():
            return None
        first, stop = starts[0], text.index(end)
        return cls(
            text[: first.start()],
            text[first.end() : stop].removeprefix("\n"),
            text[stop:],
            first[1] or "",
            int(first[2] or 0),
        )


def update_readme(path: Path, document: Document, *, may_lose: bool = False) -> bool:
    """Puts the table into its block of a README; returns whether the file changed.

    Args:
        may_lose: Whether it may replace a table with more measured rows, of another profile, say.

    Raises:
        UserError: The file does not have the two markers; or it would lose rows.
    """
    text, name, ours = path.read_text(), document["name"], num_measured(document)
    block = Block.find(text, name)
    if block is None:
        raise UserError(
            f"{path}: needs one <!-- {name}:begin --> and, after it, one <!-- {name}:end -->"
        )
    if ours < block.num_measured and not may_lose:
        raise UserError(
            f"{path} is left alone: its table has {block.num_measured} measured rows, this one"
            f" {ours}; {ALLOW_LOSS}"
        )
    marker = f"<!-- {name}:begin {document['profile']} {ours} -->"
    updated = f"{block.before}{marker}\n{render_for_readme(document)}{block.after}"
    if updated != text:
        files.write_atomic(path, updated)
    return updated != text


def readme_table(text: str, document: Document) -> str | None:
    """The Markdown in the table's block of a README, if it is of the document's profile."""
    block = Block.find(text, document["name"])
    return block.table if block and block.profile == document["profile"] else None
