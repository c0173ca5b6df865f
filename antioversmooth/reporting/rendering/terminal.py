"""Tables on a terminal: of results, and of the states of runs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from antioversmooth.reporting.rendering import cells, markdown
from antioversmooth.reporting.table.document import Document

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as Drawing

Status = Mapping[str, Any]
"""What orchestration/status.py tells of a run."""


def show_table(document: Document, out: TextIO) -> None:
    """Prints a table of results: drawn on a terminal, as Markdown elsewhere."""
    if not out.isatty():
        print(markdown.render(document), file=out)
        return
    columns, console = cells.shown_columns(document), _console(out)
    headers = cells.headings(document, columns)
    grid = cells.grid(document, columns)
    ranked = sorted(range(len(columns)), key=lambda i: columns[i].priority)
    kept = _fitting(headers, grid, [headers[i] for i in ranked], console.width)
    caption = " ".join([*document["caption"], *cells.remarks(document)])
    if len(kept) < len(headers):
        left_out = ", ".join(name for i, name in enumerate(headers) if i not in kept)
        caption += f" A wider terminal has room for: {left_out}."
    console.print(
        _drawing(
            document["title"],
            [headers[i] for i in kept],
            [columns[i].sort is None for i in kept],
            [[row[i] for i in kept] for row in grid],
            caption,
        )
    )


STATUS_HEADER = (
    "row", "seed", "state", "epoch", "top-1 (%)", "paper (ImageNet-1k)", "left", "attempts",
    "nodes", "device-hours",
    "still to come", "",
)  # fmt: skip
WIDEST, PADDING = 32, 2
"""Characters of a column beyond which its words go on in the next line, half a terminal at most;
and between two."""
UNBROKEN = ("row", "seed", "state", "epoch", "top-1 (%)")
WORDS = ("row", "state", "attempts", "nodes", "")
STATUS_PRIORITY = ("row", "state", "seed", "top-1 (%)", "epoch", "left", "", "attempts")
"""Which columns stay on a narrow terminal, before all others in their own order."""


def show_statuses(statuses: Sequence[Status], out: TextIO) -> None:
    """Prints one line for each run."""
    _print(_status_drawing(statuses, out), out)


def watch_statuses(
    read: Callable[[], Sequence[Status]], out: TextIO, *, every_s: float = 15.0
) -> None:
    """Shows them again and again until nothing waits or runs; where `out` is no terminal, prints
    only the last."""
    from rich.live import Live

    with Live(console=_console(out), auto_refresh=False) as live:
        while True:
            statuses = read()
            live.update(_status_drawing(statuses, out), refresh=True)
            if not any(status["live"] for status in statuses):
                return
            time.sleep(every_s)


def _status_drawing(statuses: Sequence[Status], out: TextIO) -> Drawing:
    several = len({status["profile"] for status in statuses}) > 1
    shared = Counter(
        (status["profile"], status["experiment"], status["seed"]) for status in statuses
    )
    rows = []
    for status in statuses:
        profile, name = status["profile"], status["experiment"]
        label = f"{profile}/{name}" if several else name
        # the row as it was before its spec was edited
        if shared[profile, name, status["seed"]] > 1:
            label += f" {status['id'][:8]}"
        rows.append([text or cells.EMPTY for text in [label, *_status_cells(status)]])
    told = list(range(len(STATUS_HEADER)))
    # which has no room for columns that say nothing, nor for long paths
    if out.isatty():
        rows = [[*row[:-1], _shortened(row[-1])] for row in rows]
        told = [i for i in told if {row[i] for row in rows} - {cells.EMPTY, " "}]
        kept = _fitting(
            [STATUS_HEADER[i] for i in told],
            [[row[i] for i in told] for row in rows],
            STATUS_PRIORITY,
            _console(out).width,
        )
        told = [told[i] for i in kept]
    header = [STATUS_HEADER[i] for i in told]
    return _drawing(
        "", header, [name in WORDS for name in header], [[row[i] for i in told] for row in rows], ""
    )


def _status_cells(status: Status) -> list[str]:
    return [
        str(status["seed"]),
        status["state"],
        "" if status["epochs"] is None else f"{status['epoch']}/{status['epochs']}",
        _number(status["top1"], ".1f"),
        _number(status["paper_imagenet_top1"], ".1f"),
        "" if status["remaining_s"] is None else duration(status["remaining_s"]),
        _attempts(status["attempts"]),
        status["nodes"],
        _number(status["device_hours_used"], ".2f"),
        _number(status["device_hours_left"], ".2f"),
        status["detail"] or " ",
    ]


def _shortened(text: str) -> str:
    """A text whose words fit into a column: of longer ones, such as paths, the middle is left
    out."""
    half = WIDEST // 2
    return " ".join(
        word if len(word) <= WIDEST else f"{word[: half - 1]}…{word[-half:]}"
        for word in text.split(" ")
    )


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _attempts(attempts: Sequence[Mapping[str, Any]]) -> str:
    """3: 2 preempted, timeout."""
    reasons = Counter(
        attempt["reason"] for attempt in attempts if attempt["reason"] not in (None, "completed")
    )
    told = ", ".join(
        reason if count == 1 else f"{count} {reason}" for reason, count in reasons.items()
    )
    return f"{len(attempts)}: {told}" if told else str(len(attempts))


def duration(seconds: float) -> str:
    """45 s, 12 min, 3.5 h: as exact as an estimate deserves."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _drawing(
    title: str,
    header: Sequence[str],
    words: Sequence[bool],
    rows: Sequence[Sequence[str]],
    caption: str,
) -> Drawing:
    """Rows, drawn by rich."""
    # a tenth of a second that `--help` does not pay
    from rich.table import Table as Drawing
    from rich.text import Text

    drawing = Drawing(
        title=title or None,
        caption=caption or None,
        box=None,
        caption_justify="left",
        padding=(0, 1),
    )
    for name, is_word in zip(header, words, strict=True):
        drawing.add_column(
            Text(name), justify="left" if is_word else "right", no_wrap=name in UNBROKEN
        )
    for row in rows:
        drawing.add_row(*map(Text, row))
    return drawing


def _fitting(
    header: Sequence[str], rows: Sequence[Sequence[str]], priority: Sequence[str], width: int
) -> list[int]:
    """Which columns fit side by side with their words whole, from left to right; the most important
    one always does."""
    ranked = [header.index(name) for name in priority if name in header]
    ranked += [i for i in range(len(header)) if i not in ranked]
    kept: list[int] = []
    widest = min(WIDEST, width // 2)
    for i in ranked:
        words = [header[i]] if header[i] in UNBROKEN else header[i].split()
        needed = (
            min(max(map(len, [*words, *(row[i] for row in rows)]), default=0), widest) + PADDING
        )
        if not kept or needed <= width:
            kept.append(i)
            width -= needed
    return sorted(kept)


def _print(drawing: Drawing, out: TextIO) -> None:
    _console(out).print(drawing)


def _console(out: TextIO) -> Console:
    """Where `out` is no terminal, without colour and as wide as the text."""
    from rich.console import Console

    return Console(file=out, width=None if out.isatty() else 10_000)
