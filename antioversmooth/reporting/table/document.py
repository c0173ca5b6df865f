"""The JSON document behind every rendering of a table: numbers, provenance, caption and notes.

Renderers read nothing but this document, so a committed JSON file renders to the same bytes on any
machine, without the runs. It contains no time of creation and no path of the machine that made it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from antioversmooth import files, runs
from antioversmooth.config import Table
from antioversmooth.constraints import NAME, PROFILE
from antioversmooth.reporting.table import captions
from antioversmooth.reporting.table.aggregate import RowResult, aggregate, seed_state, sources
from antioversmooth.reporting.table.columns import Row, measured_row, row_shape
from antioversmooth.reporting.table.observe import Observation, observe_all
from antioversmooth.runs import Run, journal
from antioversmooth.runs.metrics import PERCENT, VAL_TOP1
from antioversmooth.runs.result import RESULT
from antioversmooth.shapes import Shape
from antioversmooth.spec import Request
from antioversmooth.text import visible

Document = dict[str, Any]

FORMAT = 2
"""Raised when older code would misread the document; this code reads all formats up to its own.
Without a number it is of the first. Format 2: a gain has pairs and an interval."""

CURVE_POINTS = 100
"""Points of a learning curve at most: more cannot be seen, and the file is committed."""


def collect(table: Table, request: Request, seeds: Sequence[int], results: Path) -> Document:
    """The table as it is now, from the run directories.

    Args:
        request: The table's request: which experiments, with which overrides.
        results: The project's results folder.
    """
    return build(table, _observe(request, seeds, results), list(seeds))


def _observe(request: Request, seeds: Sequence[int], results: Path) -> dict[str, list[Observation]]:
    """The runs of each row, by its name; experiments of the same identity share their runs."""
    planned: dict[str, Run] = {}
    rows: dict[str, list[str]] = {}
    folder = request.results(results)
    for experiment in request.experiments:
        needed = request.plan_row(experiment, seeds, folder)
        rows[experiment.row_name] = [run.id for run in needed if run.experiment is experiment]
        for run in needed:
            planned.setdefault(run.id, run)
    seen = {one.run.id: one for one in observe_all(planned.values())}
    return {name: [seen[run_id] for run_id in ids] for name, ids in rows.items()}


def build(
    table: Table, observed: Mapping[str, Sequence[Observation]], seeds: list[int]
) -> Document:
    """The document of a table.

    Args:
        observed: The runs of each row, by its name, one for each seed.
    """
    measured = (observed.get(row.row_name, ()) for row in table.rows)
    setting = captions.Setting.of(next(chain.from_iterable(measured)).run.experiment)
    rows = aggregate(table, observed, comparable=setting.comparable)
    return {
        "format": FORMAT,
        "name": table.name,
        "title": captions.title(table, setting),
        "caption": captions.caption(table, setting, rows, seeds),
        "notes": captions.notes(rows),
        **({"figures": list(table.figures)} if table.figures else {}),
        **({"related": list(table.related)} if table.related else {}),
        **({"columns": list(table.columns)} if table.columns else {}),
        "sources": sources(table),
        "profile": setting.profile,
        "data": {"name": setting.data, "num_train": setting.num_train, "num_val": setting.num_val},
        "comparable": setting.comparable,
        "complete": all(row.complete for row in rows),
        "seeds": seeds,
        "rows": [document_row(row, table.columns) for row in rows],
    }


def document_row(row: RowResult, extra: Sequence[str] = ()) -> Row:
    """A row of the document: its columns, its spec and its seeds.

    Args:
        extra: `columns` of the table's spec.
    """
    return {
        **measured_row(row, extra),
        **({"row": row.row.name} if row.row.name not in ("", row.row.experiment) else {}),
        "spec": runs.identity_fields(row.seeds[0].run.experiment) if row.seeds else None,
        "seeds": [_seed(seen) for seen in row.seeds],
    }


def _seed(seen: Observation) -> dict[str, Any]:
    """The measurements of one run, and their provenance."""
    return {
        "seed": seen.run.seed,
        "id": seen.run.id,
        "state": seed_state(seen),
        "problem": seen.problem,
        "attempts": len(seen.attempts),
        "older": seen.older,
        "result": _result(seen.result) if seen.result else None,
        "curve": _curve(seen.epochs),
        "provenance": seen.provenance,
    }


def _result(result: dict[str, Any]) -> dict[str, Any]:
    """The result without the names of the run, and without the local path of the data."""
    fields = {k: value for k, value in result.items() if k not in ("id", "experiment", "seed")}
    data = fields.get("data")
    if isinstance(data, dict):
        fields["data"] = {key: value for key, value in data.items() if key != "root"}
    return fields


def _curve(epochs: list[journal.Record]) -> dict[str, list[float]]:
    """Accuracy after each epoch, thinned evenly; the last epoch is always among them."""
    stride = -(-len(epochs) // CURVE_POINTS)
    points = epochs[::-1][:: stride or 1][::-1]
    return {"epoch": [r["epoch"] for r in points], "top1": [r[VAL_TOP1] for r in points]}


def shape() -> Shape:
    """The shape of a document: of all that renderings read, and of all numbers."""
    seed = {
        "seed": int,
        "id": str,
        "state": str,
        "problem": str,
        "attempts": int,
        "older?": [str],
        "result": (RESULT, None),
        "curve": {"epoch": [int], "top1": [PERCENT]},
        "provenance?": (dict, None),
    }
    name = re.compile(NAME)
    return {
        "format?": int,
        "name": name,
        "title": str,
        "caption": [str],
        "notes": [str],
        "figures?": [name],
        "related?": [name],
        "columns?": [str],
        "sources": [str],
        "profile": re.compile(PROFILE),
        "data": {"name": str, "num_train": int, "num_val": int},
        "comparable": bool,
        "complete": bool,
        "seeds": [int],
        "rows": [{**row_shape(), "row?": name, "spec?": (dict, None), "seeds": [seed]}],
    }


def measured_seeds(row: Row) -> set[int]:
    """The seeds that the accuracy of a row is made of."""
    return {seed["seed"] for seed in row["seeds"] if seed["result"]} if row["top1"] else set()


def num_measured(document: Document) -> int:
    """The number of rows that have an accuracy."""
    return sum(bool(row["top1"]) for row in document["rows"])


def dumps(document: Document) -> str:
    """The document as JSON for a repository: indented, lists of numbers on one line."""
    return visible(_indented(document, "\n")) + "\n"


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
"""The encoder in C. The standard library's encoder with indentation is in Python, and would take
most of the time of a large table."""


def _indented(value: Any, newline: str) -> str:
    """JSON as of `json.dumps(value, indent=2)`, but with lists of numbers on one line.

    Args:
        newline: A line break and the indentation of the line that contains the value.
    """
    inner = f"{newline}  "
    if isinstance(value, dict) and value:
        parts = [f"{_encode(str(key))}: {_indented(item, inner)}" for key, item in value.items()]
        return f"{{{inner}{f',{inner}'.join(parts)}{newline}}}"
    if isinstance(value, list) and value and not _are_numbers(value):
        return f"[{inner}{f',{inner}'.join(_indented(item, inner) for item in value)}{newline}]"
    return _encode(value)


def _are_numbers(values: list[Any]) -> bool:
    return {int, float}.issuperset(map(type, values)) and all(map(math.isfinite, values))


def load_document(path: Path) -> Document:
    """Loads a document that `dumps` wrote."""
    return dict(files.read_json(path))
