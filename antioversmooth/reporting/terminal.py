"""Tables on a terminal: of results, and of the states of runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TextIO

from antioversmooth.config import Table
from antioversmooth.reporting import cells, markdown
from antioversmooth.reporting.aggregate import seed_state
from antioversmooth.reporting.document import Document
from antioversmooth.reporting.observe import Observation

Status = dict[str, Any]


def show_table(document: Document, out: TextIO) -> None:
    """Prints a table of results: drawn on a terminal, as Markdown elsewhere."""
    if not out.isatty():
        print(markdown.render(document), file=out)
        return
    columns, rows = cells.table(document)
    words = [column.value is None for column in columns]
    caption = " ".join([*document["caption"], *cells.remarks(document)])
    _draw(document["title"], [c.header for c in columns], words, cells.grouped(rows), caption, out)


def statuses(observed: Sequence[Observation], tables: Sequence[Table]) -> list[Status]:
    """One plain value for each run: how far it is, and the paper's accuracy for its row."""
    paper = {row.experiment: row.paper.top1 for table in tables for row in table.rows if row.paper}
    return [_status(seen, paper.get(seen.run.experiment.name)) for seen in observed]


def _status(seen: Observation, paper: float | None) -> Status:
    return {
        "experiment": seen.run.experiment.name,
        "seed": seen.run.seed,
        "id": seen.run.id,
        "state": seed_state(seen),
        "epoch": seen.epoch,
        "epochs": seen.run.experiment.recipe.epochs,
        "top1": seen.top1,
        "paper_imagenet_top1": paper,
        "remaining_s": seen.remaining_s,
        "attempts": seen.num_attempts,
        "problem": seen.problem,
    }


STATUS_HEADER = ("row", "seed", "state", "epoch", "top-1 (%)", "paper (ImageNet-1k)", "left", "attempts", "")


def show_statuses(statuses: Sequence[Status], out: TextIO) -> None:
    """Prints one line for each run."""
    rows = [[text or cells.EMPTY for text in _status_cells(status)] for status in statuses]
    _draw("", STATUS_HEADER, [header in ("row", "state", "") for header in STATUS_HEADER], rows, "", out)


def _status_cells(status: Status) -> list[str]:
    return [
        status["experiment"],
        str(status["seed"]),
        status["state"],
        f"{status['epoch']}/{status['epochs']}",
        "" if status["top1"] is None else f"{status['top1']:.1f}",
        "" if status["paper_imagenet_top1"] is None else f"{status['paper_imagenet_top1']:.1f}",
        "" if status["remaining_s"] is None else duration(status["remaining_s"]),
        str(status["attempts"]),
        status["problem"] or " ",
    ]


def duration(seconds: float) -> str:
    """45 s, 12 min, 3.5 h: as exact as an estimate deserves."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _draw(
    title: str,
    header: Sequence[str],
    words: Sequence[bool],
    rows: Sequence[Sequence[str]],
    caption: str,
    out: TextIO,
) -> None:
    """Draws rows with rich; where `out` is no terminal, without colour and as wide as the text."""
    from rich.console import Console  # a tenth of a second that `--help` does not pay
    from rich.table import Table as Drawing
    from rich.text import Text

    drawing = Drawing(title=title or None, caption=caption or None, box=None, caption_justify="left", padding=(0, 1))
    for name, is_word in zip(header, words, strict=True):
        drawing.add_column(Text(name), justify="left" if is_word else "right")
    for row in rows:
        drawing.add_row(*map(Text, row))
    Console(file=out, width=None if out.isatty() else 400).print(drawing)
