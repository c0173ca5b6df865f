"""A table as CSV: one line for each row, numbers in full, for a spreadsheet or a script."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from antioversmooth.reporting.table.columns import Column, Row, columns_of, dig
from antioversmooth.reporting.table.document import Document
from antioversmooth.text import csv_cell


def render(document: Document) -> str:
    """Header and rows; a cell is empty where there is no value, or none yet in an older table."""
    columns = columns_of(document.get("columns", []))
    header = [name for column in columns for name in column.csv_paths()]
    shared = {
        "data": csv_cell(document["data"]["name"]),
        "seeds": " ".join(map(str, document["seeds"])),
    }
    after = header.index("state") + 1
    out = io.StringIO()
    writer = csv.DictWriter(out, [*header[:after], *shared, *header[after:]], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**_values(columns, row), **shared} for row in document["rows"])
    return out.getvalue()


def _values(columns: Sequence[Column], row: Row) -> dict[str, Any]:
    return {
        name: csv_cell(dig(column.value(row), path))
        for column in columns
        for name, path in column.csv_paths().items()
    }
