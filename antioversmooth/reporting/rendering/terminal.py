"""Tables on a terminal: results, and the states of runs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TextIO

from antioversmooth.reporting.rendering import cells, markdown
from antioversmooth.reporting.table.document import Document
from antioversmooth.text import one_line
from antioversmooth.text_table import (
    TextColumn,
    console_of,
    drawing_of,
    fitted_drawing,
    plain_lines,
    widest_text,
)

if TYPE_CHECKING:
    from rich.table import Table

Status = Mapping[str, Any]
"""The status of a run (orchestration/monitor/status.py)."""

# -- results ---------------------------------------------------------------------------------------


def show_table(document: Document, out: TextIO) -> None:
    """Prints a table of results: drawn on a terminal, as Markdown elsewhere."""
    if not out.isatty():
        print(markdown.render(document), file=out)
        return
    console, columns = console_of(out), cells.shown_columns(document)
    headings, grid = cells.headings(document, columns), cells.grid(document, columns)
    drawn = [
        TextColumn(
            heading,
            list(map(one_line, texts)),
            c.sort is None,
            c.priority,
            c.key in ("top1", "state"),
        )
        for c, heading, texts in zip(columns, headings, zip(*grid, strict=True), strict=True)
    ]
    caption = " ".join([*document["caption"], *cells.remarks(document)])
    console.print(fitted_drawing(drawn, console.width, document["title"], caption))


# -- states ----------------------------------------------------------------------------------------


def _status_columns(statuses: Sequence[Status]) -> list[TextColumn]:
    def texts(text: Callable[[Status], str]) -> list[str]:
        return [one_line(text(status)) or cells.EMPTY for status in statuses]

    def numbers(key: str, form: str) -> list[str]:
        return texts(lambda status: "" if status[key] is None else format(status[key], form))

    return [
        TextColumn("row", _row_names(statuses), True, priority=1, no_wrap=True),
        TextColumn("seed", texts(lambda status: str(status["seed"])), priority=3, no_wrap=True),
        TextColumn("state", texts(lambda status: status["state"]), True, priority=2, no_wrap=True),
        TextColumn("epoch", texts(_epoch), priority=6, no_wrap=True),
        TextColumn("top-1 (%)", numbers("top1", ".1f"), priority=5, no_wrap=True),
        TextColumn("paper (ImageNet-1k)", numbers("paper_imagenet_top1", ".1f")),
        TextColumn("left", texts(_remaining), priority=7),
        TextColumn("attempts", texts(_attempts), True, priority=8),
        TextColumn("nodes", texts(lambda status: status["nodes"]), True),
        TextColumn("device-hours", numbers("device_hours_used", ".2f")),
        TextColumn("remaining", numbers("device_hours_left", ".2f")),
        TextColumn("detail", [one_line(_detail(s)) or " " for s in statuses], True, priority=4),
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
        console_of(out).print(_status_drawing(statuses, out))
    else:
        print("\n".join(plain_lines(_status_columns(statuses))), file=out)


WATCH_EVERY_S = 15.0
"""Seconds between two looks."""


def watch_statuses(read: Callable[[], Sequence[Status]], out: TextIO) -> None:
    """Shows the statuses periodically until no run is pending or running; prints only the last
    where `out` is not a terminal."""
    from rich.live import Live

    console = console_of(out)
    with Live(
        console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
    ) as live:
        while True:
            statuses = read()
            live.update(_status_drawing(statuses, out), refresh=True)
            if not any(status["live"] for status in statuses):
                return
            time.sleep(WATCH_EVERY_S)


def _status_drawing(statuses: Sequence[Status], out: TextIO) -> Table:
    columns = _status_columns(statuses)
    if out.isatty():
        # A terminal has no room for empty columns, nor for long paths.
        width = console_of(out).width
        details = [_shortened(text, widest_text(width)) for text in columns[-1].cells]
        columns[-1] = replace(columns[-1], cells=details)
        columns = [column for column in columns if set(column.cells) - {cells.EMPTY, " "}]
        return fitted_drawing(columns, width)
    return drawing_of(columns)


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


def _shortened(text: str, widest: int) -> str:
    """The text with the middle of long words, such as paths, left out."""
    half = widest // 2
    return " ".join(
        word if len(word) <= widest else f"{word[: half - 1]}…{word[-half:]}"
        for word in text.split(" ")
    )


def duration(seconds: float) -> str:
    """45 s, 12 min, 3.5 h: as precise as an estimate."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
