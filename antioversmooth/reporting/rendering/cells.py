"""What each cell of a table says, as plain text: shared by every format, escaped by none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from antioversmooth.reporting.table.document import Document

Row = dict[str, Any]

EMPTY = "–"
MODEL, STATE, ACCURACY = "model", "state", "top-1 (%)"
"""Headers of columns that others treat by themselves."""


@dataclass(frozen=True)
class Column:
    """A column: its header, the text of a row's cell ("" where there is nothing), and the number to
    sort it by."""

    header: str
    text: Callable[[Row], str]
    value: Callable[[Row], float | None] | None = None
    """None: a column of words, aligned left."""


def columns(document: Document) -> list[Column]:
    """The columns that say something in at least one row."""
    digits = accuracy_digits(document)
    return [
        column
        for column in _all(document, digits)
        if any(column.text(row) for row in document["rows"])
    ]


def accuracy_digits(document: Document) -> int:
    """Decimals of an accuracy in percent: no more than the number of validation images supports."""
    return 2 if document["data"]["num_val"] >= 10_000 else 1


def table(document: Document) -> tuple[list[Column], list[list[str]]]:
    """Columns and the text of every cell, with a dash for nothing."""
    chosen = columns(document)
    return chosen, [[column.text(row) or EMPTY for column in chosen] for row in document["rows"]]


def _all(document: Document, digits: int) -> list[Column]:
    """A table of before a measure was added lacks it, and is rendered without its column."""
    paper = "paper" if document["comparable"] else "paper (ImageNet-1k)"
    return [
        Column("backbone", lambda row: str(row["group"])),
        Column(MODEL, lambda row: str(row["label"])),
        Column(ACCURACY, lambda row: sample(row["top1"], digits), lambda row: _mean(row["top1"])),
        Column(paper, _paper, lambda row: row["paper"] and row["paper"]["top1"]),
        Column(
            "ours − paper",
            lambda row: signed(row.get("difference"), digits),
            lambda row: row.get("difference"),
        ),
        Column(
            "gain", lambda row: _gain(row.get("gain"), digits), lambda row: _mean(row.get("gain"))
        ),
        Column("beyond spread", _beyond),
        Column(
            "best epoch",
            lambda row: sample(row.get("best"), digits),
            lambda row: _mean(row.get("best")),
        ),
        Column(
            "start",
            lambda row: sample(row.get("start"), digits),
            lambda row: _mean(row.get("start")),
        ),
        Column(
            "params (M)",
            lambda row: significant(row.get("parameters"), 1e6),
            lambda row: row.get("parameters"),
        ),
        Column("GMACs", lambda row: significant(row.get("gmacs")), lambda row: row.get("gmacs")),
        Column(
            "images/s",
            lambda row: significant(row.get("images_per_s")),
            lambda row: row.get("images_per_s"),
        ),
        Column("device", lambda row: row.get("device") or ""),
        Column("epochs", lambda row: _count(row.get("epochs")), lambda row: row.get("epochs")),
        Column(
            "device-hours",
            lambda row: significant(row.get("device_hours")),
            lambda row: row.get("device_hours"),
        ),
        Column(STATE, lambda row: str(row["state"])),
    ]


def sample(value: dict[str, Any] | None, digits: int) -> str:
    """80.12 ± 0.08, or the mean alone where there is one seed."""
    if value is None:
        return ""
    spread = "" if value["std"] is None else f" ± {value['std']:.{digits}f}"
    return f"{value['mean']:.{digits}f}{spread}"


def signed(value: float | None, digits: int) -> str:
    """A difference with its sign; never minus nought."""
    return "" if value is None else f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")


def significant(value: float | None, unit: float = 1.0) -> str:
    """Three significant digits, all digits of the whole part, thousands separated."""
    if value is None:
        return ""
    scaled = value / unit
    return f"{scaled:,.0f}" if abs(scaled) >= 100 else f"{scaled:#.3g}"


def _paper(row: Row) -> str:
    value = row["paper"]
    return f"{value['top1']:.1f} {value['confidence']} [{value['footnote']}]" if value else ""


def _gain(value: dict[str, Any] | None, digits: int) -> str:
    if value is None:
        return ""
    spread = "" if value["spread"] is None else f" ± {value['spread']:.{digits}f}"
    return signed(value["mean"], digits) + spread


def _beyond(row: Row) -> str:
    gain = row.get("gain")
    verdict = gain and gain["beyond_spread"]
    return "" if verdict is None else "yes" if verdict else "no"


def _mean(value: dict[str, Any] | None) -> float | None:
    return None if value is None else float(value["mean"])


def _count(value: int | None) -> str:
    return "" if value is None else str(value)


def grouped(rows: list[list[str]]) -> list[list[str]]:
    """The rows with the first cell blank where it repeats the row above."""
    return [
        ["" if above is not None and row[0] == above[0] else row[0], *row[1:]]
        for above, row in zip([None, *rows[:-1]], rows, strict=True)
    ]


def remarks(document: Document) -> list[str]:
    """Numbered sources, then notes: what stands below the table."""
    sources = [f"[{number}] {source}" for number, source in enumerate(document["sources"], start=1)]
    return [*sources, *document["notes"]]
