"""A table as one HTML file: gains and curves, then the rows with their provenance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from antioversmooth.reporting.rendering import cells, gallery, html, provenance
from antioversmooth.reporting.rendering.chart import (
    Gain,
    GainChart,
    Points,
    Series,
    gain_chart,
    line_chart,
)
from antioversmooth.reporting.table.columns import Column, Row, dig
from antioversmooth.reporting.table.document import Document


def render(document: Document) -> str:
    """The whole page. It fetches nothing, and its content security policy forbids to."""
    columns = cells.shown_columns(document)
    # what the table is, behind the warning that rows of it are missing
    first = 1 if document["complete"] else 2
    return html.render(
        "page.html",
        document=document,
        first=document["caption"][:first],
        explanation=document["caption"][first:],
        columns=list(zip(columns, cells.headings(document, columns), strict=True)),
        rows=[_row(document, columns, row) for row in document["rows"]],
        gains=_gains(document),
        sections=list(_sections(document)),
        gallery=gallery.PAGE,
        remarks=cells.remarks(document),
    )


def _row(document: Document, columns: list[Column], row: Row) -> dict[str, Any]:
    texts = cells.texts(document, columns, row)
    numbers = [column.number(row) for column in columns]
    return {
        "kind": _kind(row),
        "group": row["group"],
        "cells": list(zip(columns, texts, numbers, strict=True)),
        "seeds": row["seeds"],
        "summary": provenance.summary(row),
        "facts": provenance.facts(row),
        "experiment": row["experiment"],
        "spec": provenance.spec(row),
    }


def _kind(row: Row) -> str:
    """The class of a row in page.css: quoted from literature, done with all seeds, or open."""
    if not row["seeds"]:
        return "quoted"
    return "done" if all(seed["result"] for seed in row["seeds"]) else "open"


# -- figures ---------------------------------------------------------------------------------------


def _gains(document: Document) -> GainChart | None:
    """The gains of all rows; None where there are none."""
    rows = {row.get("row") or row["experiment"]: row for row in document["rows"]}
    gains = []
    for row in document["rows"]:
        if row["gain"]:
            ends = row["gain"].get("interval")
            interval = (ends["low"], ends["high"]) if ends else None
            published = [dig(one, "paper.top1") for one in (row, rows.get(row["baseline"]))]
            paper = None if None in published else published[0] - published[1]
            label = ", ".join(filter(None, [row["label"], row["group"]]))
            gains.append(Gain(label, row["gain"]["mean"], interval, paper))
    return gain_chart(gains) if gains else None


def _accuracy(row: Row) -> list[Points]:
    curves = [seed["curve"] for seed in row["seeds"]]
    return [
        list(zip(curve["epoch"], curve["top1"], strict=True)) for curve in curves if curve["epoch"]
    ]


def _similarity(row: Row) -> list[Points]:
    found = [dig(seed, "result.similarity.tokens") for seed in row["seeds"]]
    return [list(enumerate(values, start=1)) for values in found if values]


SECTIONS = (
    ("Accuracy after each epoch", _accuracy, "epoch", "top-1 accuracy in percent"),
    (
        "Similarity of tokens in each layer",
        _similarity,
        "layer",
        "mean cosine between the tokens after a block",
    ),
)
"""Heading, lines of a row, and labels of the axes."""


def _sections(document: Document) -> Iterator[dict[str, Any]]:
    """A heading, and one chart for each group of rows that has lines."""
    for heading, lines, x_label, y_label in SECTIONS:
        groups: dict[str, list[Series]] = {}
        for row in document["rows"]:
            if drawn := lines(row):
                groups.setdefault(row["group"], []).append((row["label"], drawn))
        charts = [
            (group, line_chart(series, x_label=x_label, y_label=y_label))
            for group, series in groups.items()
        ]
        if charts:
            yield {"heading": heading, "y_label": y_label, "charts": charts}
