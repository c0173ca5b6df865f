"""Publishes the results of a launch: tables, figures and MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from antioversmooth.config import Table
from antioversmooth.errors import TrackingError
from antioversmooth.reporting import figures
from antioversmooth.reporting.rendering import terminal
from antioversmooth.reporting.table import document, tables
from antioversmooth.reporting.table.observe import observe_all
from antioversmooth.reporting.tracking import mirror
from antioversmooth.runs import Run
from antioversmooth.spec import Request


def publish(
    runs: Sequence[Run],
    wanted: Sequence[Table],
    request: Request,
    seeds: Sequence[int],
    results: Path,
    out: TextIO,
) -> list[document.Document]:
    """Writes and shows tables and figures, and mirrors the runs into MLflow; returns the tables.

    Args:
        results: The project's results folder.
        out: For the tables and messages.
    """
    documents, folder = [], tables.destination(request, results)
    for table in wanted:
        made = document.collect(table, request, seeds, results)
        documents.append(made)
        # Written first: printing may fail if nobody reads `out`.
        message = _write(table, made, folder, request, seeds, results)
        terminal.show_table(made, out)
        print(message, file=out)
    _mirror(runs, wanted, results, out)
    return documents


def _mirror(runs: Sequence[Run], tables: Sequence[Table], results: Path, out: TextIO) -> None:
    """Mirrors the runs; the tables are complete without it, and the next launch catches up."""
    try:
        observed = observe_all(runs)
        mirrored = mirror.sync(observed, tables, results)
    except TrackingError as err:
        print(f"Not mirrored into MLflow: {err}", file=out)
        return
    for experiment in mirrored:
        if experiment.problem:
            print(f"{experiment.name}: not mirrored: {experiment.problem}", file=out)
        elif experiment.note:
            print(f"{experiment.name}: {experiment.note}", file=out)


def _write(
    table: Table,
    made: document.Document,
    folder: Path | None,
    request: Request,
    seeds: Sequence[int],
    results: Path,
) -> str:
    """Writes the files and figures of a table; returns the message that lists them, or why not."""
    if folder is None:
        return "Not written: the overrides change the experiments of the table."
    if why := tables.loss_message(made, folder):
        return (
            f"Not written: {why}; `antioversmooth table {table.name}` with --allow-partial writes"
            " it nevertheless."
        )
    written = [*tables.write_table(made, folder), *figures.render(table, request, seeds, results)]
    return f"Written to {folder}: {', '.join(str(path.relative_to(folder)) for path in written)}"
