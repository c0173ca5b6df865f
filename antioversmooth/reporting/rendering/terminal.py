"""Tables on a terminal: results, and the states of runs.

rich draws them. It cannot leave columns out, so a narrow terminal gets those that fit, by priority.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TextIO

from antioversmooth.reporting.rendering import cells, markdown
from antioversmooth.reporting.table.document import Document
from antioversmooth.text import one_line, open_console, visible

if TYPE_CHECKING:
    from rich.console import Console, JustifyMethod
    from rich.table import Table

Status = Mapping[str, Any]
"""The status of a run (orchestration/monitor/status.py)."""

WIDEST, PADDING = 32, 2
"""Characters after which the text of a column wraps, half a terminal at most; and between two
columns."""


@dataclass(frozen=True)
class _Column:
    """A column with its cells."""

    header: str
    cells: list[str]
    """Visible texts of one line; a blank where a cell is empty on purpose."""
    is_text: bool = False
    """Aligned left."""
    priority: int = 9
    """Order in which columns get room on a narrow terminal, 1 first."""
    no_wrap: bool = False

    def width(self, limit: int) -> int:
        """The characters that keep its words whole, with the padding."""
        words = [self.header] if self.no_wrap else self.header.split()
        return min(max(map(len, [*words, *self.cells]), default=0), limit) + PADDING


# -- results ---------------------------------------------------------------------------------------


def show_table(document: Document, out: TextIO) -> None:
    """Prints a table of results: drawn on a terminal, as Markdown elsewhere."""
    if not out.isatty():
        print(markdown.render(document), file=out)
        return
    console, columns = _console(out), cells.shown_columns(document)
    headings, grid = cells.headings(document, columns), cells.grid(document, columns)
    drawn = [
        _Column(
            heading,
            list(map(one_line, texts)),
            c.sort is None,
            c.priority,
            c.key in ("top1", "state"),
        )
        for c, heading, texts in zip(columns, headings, zip(*grid, strict=True), strict=True)
    ]
    fitting = _fitting(drawn, console.width)
    caption = [*document["caption"], *cells.remarks(document)]
    if left_out := [column.header for column in drawn if column not in fitting]:
        caption.append(f"A wider terminal has room for: {', '.join(left_out)}.")
    console.print(_drawing(fitting, document["title"], " ".join(caption)))


# -- states ----------------------------------------------------------------------------------------


def _status_columns(statuses: Sequence[Status]) -> list[_Column]:
    def texts(text: Callable[[Status], str]) -> list[str]:
        return [one_line(text(status)) or cells.EMPTY for status in statuses]

    def numbers(key: str, form: str) -> list[str]:
        return texts(lambda status: "" if status[key] is None else format(status[key], form))

    return [
        _Column("row", _row_names(statuses), True, priority=1, no_wrap=True),
        _Column("seed", texts(lambda status: str(status["seed"])), priority=3, no_wrap=True),
        _Column("state", texts(lambda status: status["state"]), True, priority=2, no_wrap=True),
        _Column("epoch", texts(_epoch), priority=5, no_wrap=True),
        _Column("top-1 (%)", numbers("top1", ".1f"), priority=4, no_wrap=True),
        _Column("paper (ImageNet-1k)", numbers("paper_imagenet_top1", ".1f")),
        _Column("left", texts(_remaining), priority=6),
        _Column("attempts", texts(_attempts), True, priority=8),
        _Column("nodes", texts(lambda status: status["nodes"]), True),
        _Column("device-hours", numbers("device_hours_used", ".2f")),
        _Column("remaining", numbers("device_hours_left", ".2f")),
        _Column("", [one_line(_detail(s)) or " " for s in statuses], True, priority=7),
    ]


def _detail(status: Status) -> str:
    """The detail of the state, after the owner of a job that is another user's."""
    owner = status["job_owner"]
    job = f"job {status['job_id']} of {owner}" if owner else ""
    return "; ".join(filter(None, [job, status["detail"]]))


def _epoch(status: Status) -> str:
    return "" if status["epochs"] is None else f"{status['epoch']}/{status['epochs']}"


def _remaining(status: Status) -> str:
    return "" if status["remaining_s"] is None else duration(status["remaining_s"])


def _attempts(status: Status) -> str:
    """3: 2 preempted, timeout."""
    reasons = Counter(attempt["reason"] for attempt in status["attempts"])
    del reasons[None], reasons["completed"]
    ends = [reason if count == 1 else f"{count} {reason}" for reason, count in reasons.items()]
    number = str(len(status["attempts"]))
    return f"{number}: {', '.join(ends)}" if ends else number


def show_statuses(statuses: Sequence[Status], out: TextIO) -> None:
    """Prints one line for each run."""
    if out.isatty():
        _console(out).print(_status_drawing(statuses, out))
    else:
        print("\n".join(_plain_lines(_status_columns(statuses))), file=out)


def watch_statuses(
    read: Callable[[], Sequence[Status]], out: TextIO, *, every_s: float = 15.0
) -> None:
    """Shows the statuses periodically until no run is pending or running; prints only the last
    where `out` is not a terminal."""
    from rich.live import Live

    console = _console(out)
    with Live(
        console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
    ) as live:
        while True:
            statuses = read()
            live.update(_status_drawing(statuses, out), refresh=True)
            if not any(status["live"] for status in statuses):
                return
            time.sleep(every_s)


def _status_drawing(statuses: Sequence[Status], out: TextIO) -> Table:
    columns = _status_columns(statuses)
    if out.isatty():
        # A terminal has no room for empty columns, nor for long paths.
        columns[-1] = replace(columns[-1], cells=list(map(_shortened, columns[-1].cells)))
        columns = [column for column in columns if set(column.cells) - {cells.EMPTY, " "}]
        columns = _fitting(columns, _console(out).width)
    return _drawing(columns)


def _row_names(statuses: Sequence[Status]) -> list[str]:
    """The name of each run's row, with its profile or id where the name is not unique."""
    several = len({status["profile"] for status in statuses}) > 1
    keys = [(status["profile"], status["row"], status["seed"]) for status in statuses]
    counts = Counter(keys)
    return [
        (f"{key[0]}/" if several else "")
        + key[1]
        # The same row before and after its spec was edited.
        + (f" {status['id'][:8]}" if counts[key] > 1 else "")
        for key, status in zip(keys, statuses, strict=True)
    ]


def _shortened(text: str) -> str:
    """The text with the middle of long words, such as paths, left out."""
    half = WIDEST // 2
    return " ".join(
        word if len(word) <= WIDEST else f"{word[: half - 1]}…{word[-half:]}"
        for word in text.split(" ")
    )


def duration(seconds: float) -> str:
    """45 s, 12 min, 3.5 h: as precise as an estimate."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


# -- drawing ---------------------------------------------------------------------------------------


def _fitting(columns: Sequence[_Column], width: int) -> list[_Column]:
    """The columns that fit side by side with their words whole; always at least one."""
    fitting: list[_Column] = []
    limit = min(WIDEST, width // 2)
    for column in sorted(columns, key=lambda column: column.priority):
        needed = column.width(limit)
        if not fitting or needed <= width:
            fitting.append(column)
            width -= needed
    return [column for column in columns if column in fitting]


def _drawing(columns: Sequence[_Column], title: str = "", caption: str = "") -> Table:
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


def _plain_lines(columns: Sequence[_Column]) -> Iterator[str]:
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


def _console(out: TextIO) -> Console:
    """The console of a stream: without colour and as wide as the text if it is not a terminal."""
    return open_console(out, width=None if out.isatty() else 10_000)
