"""Tables on a terminal: results, and the states of runs.

rich draws them. It cannot leave columns out, so a narrow terminal gets those that fit, by priority.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TextIO

from antioversmooth.reporting.rendering import cells, markdown
from antioversmooth.reporting.table.document import Document

if TYPE_CHECKING:
    from rich.console import Console
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
    grid = cells.grid(document, columns)
    drawn = [
        _Column(
            heading,
            [row[i] for row in grid],
            column.sort is None,
            column.priority,
            column.key in ("top1", "state"),
        )
        for i, (column, heading) in enumerate(
            zip(columns, cells.headings(document, columns), strict=True)
        )
    ]
    fitting = _fitting(drawn, console.width)
    caption = [*document["caption"], *cells.remarks(document)]
    if left_out := [column.header for column in drawn if column not in fitting]:
        caption.append(f"A wider terminal has room for: {', '.join(left_out)}.")
    console.print(_drawing(fitting, document["title"], " ".join(caption)))


# -- states ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StatusColumn:
    """A column of the table of states; see `_Column` for its layout."""

    header: str
    text: Callable[[Status], str]
    is_text: bool = False
    priority: int = 9
    no_wrap: bool = False


def _number(key: str, form: str) -> Callable[[Status], str]:
    return lambda status: "" if status[key] is None else format(status[key], form)


def _epoch(status: Status) -> str:
    return "" if status["epochs"] is None else f"{status['epoch']}/{status['epochs']}"


def _remaining(status: Status) -> str:
    return "" if status["remaining_s"] is None else duration(status["remaining_s"])


def _attempts(status: Status) -> str:
    """3: 2 preempted, timeout."""
    reasons = Counter(
        attempt["reason"]
        for attempt in status["attempts"]
        if attempt["reason"] not in (None, "completed")
    )
    ends = [reason if count == 1 else f"{count} {reason}" for reason, count in reasons.items()]
    number = str(len(status["attempts"]))
    return f"{number}: {', '.join(ends)}" if ends else number


STATUS_COLUMNS = (
    StatusColumn("seed", lambda status: str(status["seed"]), priority=3, no_wrap=True),
    StatusColumn("state", lambda status: status["state"], True, priority=2, no_wrap=True),
    StatusColumn("epoch", _epoch, priority=5, no_wrap=True),
    StatusColumn("top-1 (%)", _number("top1", ".1f"), priority=4, no_wrap=True),
    StatusColumn("paper (ImageNet-1k)", _number("paper_imagenet_top1", ".1f")),
    StatusColumn("left", _remaining, priority=6),
    StatusColumn("attempts", _attempts, True, priority=8),
    StatusColumn("nodes", lambda status: status["nodes"], True),
    StatusColumn("device-hours", _number("device_hours_used", ".2f")),
    StatusColumn("still to come", _number("device_hours_left", ".2f")),
    StatusColumn("", lambda status: status["detail"] or " ", True, priority=7),
)
"""After the name of the row."""


def show_statuses(statuses: Sequence[Status], out: TextIO) -> None:
    """Prints one line for each run."""
    _console(out).print(_status_drawing(statuses, out))


def watch_statuses(
    read: Callable[[], Sequence[Status]], out: TextIO, *, every_s: float = 15.0
) -> None:
    """Shows the statuses periodically until no run is pending or running; prints only the last
    where `out` is not a terminal."""
    from rich.live import Live

    with Live(console=_console(out), auto_refresh=False) as live:
        while True:
            statuses = read()
            live.update(_status_drawing(statuses, out), refresh=True)
            if not any(status["live"] for status in statuses):
                return
            time.sleep(every_s)


def _status_drawing(statuses: Sequence[Status], out: TextIO) -> Table:
    names = _Column("row", _row_names(statuses), True, priority=1, no_wrap=True)
    columns = [names] + [
        _Column(
            column.header,
            [column.text(status) or cells.EMPTY for status in statuses],
            column.is_text,
            column.priority,
            column.no_wrap,
        )
        for column in STATUS_COLUMNS
    ]
    if out.isatty():
        # A terminal has no room for empty columns, nor for long paths.
        columns[-1] = replace(columns[-1], cells=[_shortened(text) for text in columns[-1].cells])
        columns = [column for column in columns if set(column.cells) - {cells.EMPTY, " "}]
        columns = _fitting(columns, _console(out).width)
    return _drawing(columns)


def _row_names(statuses: Sequence[Status]) -> list[str]:
    """The name of each run's row, with its profile or id where the name is not unique."""
    several = len({status["profile"] for status in statuses}) > 1
    keys = [(status["profile"], status["experiment"], status["seed"]) for status in statuses]
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
    """A table of rich; no text is read as markup."""
    # Imported here: it takes a tenth of a second.
    from rich.table import Table
    from rich.text import Text

    drawing = Table(
        title=Text(title, "table.title") if title else None,
        caption=Text(caption, "table.caption") if caption else None,
        box=None,
        caption_justify="left",
        padding=(0, 1),
    )
    for column in columns:
        drawing.add_column(
            Text(column.header),
            justify="left" if column.is_text else "right",
            no_wrap=column.no_wrap,
        )
    for row in zip(*(column.cells for column in columns), strict=True):
        drawing.add_row(*map(Text, row))
    return drawing


def _console(out: TextIO) -> Console:
    """The console of a stream: without colour and as wide as the text if it is not a terminal."""
    from rich.console import Console

    return Console(file=out, width=None if out.isatty() else 10_000)
