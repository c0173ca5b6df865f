"""The cells of a table as plain text, shared by all formats and escaped by none."""

from __future__ import annotations

from antioversmooth.reporting.table.columns import Column, Row, columns_of
from antioversmooth.reporting.table.document import Document

EMPTY = "–"


def shown_columns(document: Document) -> list[Column]:
    """The columns that have a text in at least one row, in the order of tables for people."""
    columns = columns_of(document.get("columns", []))
    ordered = sorted((column for column in columns if column.header), key=lambda c: c.tier)
    digits = accuracy_digits(document)
    return [
        column for column in ordered if any(column.cell(row, digits) for row in document["rows"])
    ]


def printed_columns(document: Document) -> list[Column]:
    """The columns that a printed page or a README has room for.

    The state is left out where all rows are done with the seeds that the caption names.
    """
    alike = document["complete"] and all(row["seeds"] for row in document["rows"])
    return [
        column
        for column in shown_columns(document)
        if column.in_print and not (alike and column.key == "state")
    ]


def accuracy_digits(document: Document) -> int:
    """Decimals of an accuracy in percent: no more than the number of validation images supports."""
    return 2 if document["data"]["num_val"] >= 10_000 else 1


def headings(document: Document, columns: list[Column]) -> list[str]:
    """The header of each column."""
    return [column.heading(comparable=document["comparable"]) for column in columns]


def texts(document: Document, columns: list[Column], row: Row) -> list[str]:
    """The cells of a row, with a dash where there is nothing."""
    digits = accuracy_digits(document)
    return [column.cell(row, digits) or EMPTY for column in columns]


def grid(document: Document, columns: list[Column]) -> list[list[str]]:
    """The cells of all rows; the name of a group only in its first row."""
    rows = [texts(document, columns, row) for row in document["rows"]]
    if not columns or columns[0].key != "group":
        return rows
    return [
        ["" if above is not None and row[0] == above[0] else row[0], *row[1:]]
        for above, row in zip([None, *rows[:-1]], rows, strict=True)
    ]


def remarks(document: Document) -> list[str]:
    """The lines below the table: numbered sources, then notes."""
    sources = [f"[{number}] {source}" for number, source in enumerate(document["sources"], start=1)]
    return [*sources, *document["notes"]]
