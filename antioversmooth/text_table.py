"""Tables of text: on a terminal the columns that it has room for, plain lines elsewhere.

rich draws them. It cannot leave columns out, so a narrow terminal gets those that fit, by priority.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from antioversmooth.text import open_console, visible

if TYPE_CHECKING:
    from rich.console import Console, JustifyMethod
    from rich.table import Table

WIDEST, PADDING = 32, 2
"""Characters after which the text of a column wraps, a third of a terminal at most; and between two
columns."""


def widest_text(width: int) -> int:
    """Characters after which the text of a column wraps on a terminal of this width."""
    return min(WIDEST, width // 3)


@dataclass(frozen=True)
class TextColumn:
    """A column of a table, with its cells."""

    header: str
    cells: list[str]
    """Visible texts of one line; a blank where a cell is empty on purpose."""
    is_text: bool = False
    """Aligned left."""
    priority: int = 9
    """Order in which columns get room on a narrow terminal, 1 first."""
    no_wrap: bool = False

    def width(self, limit: int) -> int:
        """The characters that keep its words whole, with the padding; its cells, where they do not
        wrap."""
        if self.no_wrap:
            return max(map(len, [self.header, *self.cells])) + PADDING
        return min(max(map(len, [*self.header.split(), *self.cells]), default=0), limit) + PADDING


def fitting_columns(columns: Sequence[TextColumn], width: int) -> list[TextColumn]:
    """The columns that fit side by side with their words whole; always at least one."""
    fitting: list[TextColumn] = []
    limit = widest_text(width)
    for column in sorted(columns, key=lambda column: column.priority):
        needed = column.width(limit)
        if not fitting or needed <= width:
            fitting.append(column)
            width -= needed
    return [column for column in columns if column in fitting]


def drawing_of(columns: Sequence[TextColumn], title: str = "", caption: str = "") -> Table:
    """A table of rich."""
    # imported here: it takes a tenth of a second
    from rich.table import Table

    drawing = Table(
        title=title or None,
        caption=caption or None,
        box=None,
        caption_justify="left",
        padding=(0, 1),
    )
    for column in columns:
        justify: JustifyMethod = "left" if column.is_text else "right"
        drawing.add_column(column.header, justify=justify, no_wrap=column.no_wrap)
    for row in zip(*(column.cells for column in columns), strict=True):
        drawing.add_row(*row)
    return drawing


def fitted_drawing(
    columns: Sequence[TextColumn], width: int, title: str = "", caption: str = ""
) -> Table:
    """A table of the columns that a terminal has room for; its caption names the others."""
    fitting = fitting_columns(columns, width)
    if left_out := [column.header for column in columns if column not in fitting]:
        caption = f"{caption} A wider terminal has room for: {', '.join(left_out)}.".lstrip()
    return drawing_of(fitting, title, caption)


def plain_lines(columns: Sequence[TextColumn]) -> Iterator[str]:
    """Lines as rich draws them where there is room for all columns.

    rich itself takes a second for a thousand lines.
    """
    # imported here: it takes a tenth of a second
    from rich.cells import cell_len

    filled = []
    for column in columns:
        texts = [visible(text) for text in (column.header, *column.cells)]
        lengths = list(map(cell_len, texts))
        width = max(lengths)
        blanks = [" " * (width - length) for length in lengths]
        pairs = zip(texts, blanks, strict=True)
        filled.append([f" {t}{b} " if column.is_text else f" {b}{t} " for t, b in pairs])
    yield from map("".join, zip(*filled, strict=True))


def console_of(out: TextIO) -> Console:
    """The console of a stream: without colour and as wide as the text if it is not a terminal."""
    return open_console(out, width=None if out.isatty() else 10_000)


def show_columns(columns: Sequence[TextColumn], out: TextIO, caption: str) -> None:
    """Prints a table, and which columns a narrow terminal has no room for."""
    if out.isatty():
        console = console_of(out)
        console.print(fitted_drawing(columns, console.width, caption=caption))
    else:
        print("\n".join([*plain_lines(columns), caption]), file=out)
