"""What follows a launch: its tables, printed and written, and its runs in MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from antioversmooth.config import Table
from antioversmooth.errors import TrackingError
from antioversmooth.reporting import document, figures, mirror, tables, terminal
from antioversmooth.reporting.observe import observe
from antioversmooth.runs import Run
from antioversmooth.spec import Request


def publish(
    runs: Sequence[Run], wanted: Sequence[Table], request: Request, seeds: Sequence[int], results: Path, out: TextIO
) -> bool:
    """Shows and writes tables and figures, and mirrors the runs into MLflow; returns whether every table is complete.

    Args:
        results: The project's results folder.
        out: Where people read.
    """
    complete, folder = True, tables.destination(request, results)
    for table in wanted:
        made = document.collect(table, request, seeds, results)
        complete &= made["complete"]
        terminal.show_table(made, out)
        if folder is None:
            print("Not written: the overrides make these other experiments than the table's.", file=out)
        elif tables.would_empty(made, folder):
            print(f"Not written: nothing of it is done, and {folder} has its numbers.", file=out)
        else:
            written = [*tables.write(made, folder), *figures.render(table, request, seeds, results)]
            print(f"Written to {folder}: {', '.join(str(path.relative_to(folder)) for path in written)}", file=out)
    try:
        mirror.sync([observe(run) for run in runs], wanted, results)
    except TrackingError as err:  # it costs no table: the next launch or sync catches up
        print(f"Not mirrored into MLflow: {err}", file=out)
    return complete
