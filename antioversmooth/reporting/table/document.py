"""The one JSON value behind every rendering of a table: numbers, their provenance, and the words
that go with them.

Renderers (markdown, latex, sheet, page) see nothing but this value, so a committed JSON file
renders to the same bytes on any machine, without the runs. It holds no time of its making and no
path of its maker's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from antioversmooth import files, runs
from antioversmooth.config import Table
from antioversmooth.reporting.table import captions
from antioversmooth.reporting.table.aggregate import RowResult, aggregate, seed_state
from antioversmooth.reporting.table.observe import Observation, observe
from antioversmooth.runs import Run, journal
from antioversmooth.runs.metrics import VAL_TOP1
from antioversmooth.spec import Request

Document = dict[str, Any]

CURVE_POINTS = 100
"""Points of a learning curve at most: more cannot be seen, and the file is committed."""


def collect(table: Table, request: Request, seeds: Sequence[int], results: Path) -> Document:
    """The table as it is now, from the run directories.

    Args:
        request: The table's request: which experiments, with which overrides.
        results: The project's results folder.
    """
    return build(table, aggregate(table, _observe(request, seeds, results)), list(seeds))


def _observe(request: Request, seeds: Sequence[int], results: Path) -> dict[str, list[Observation]]:
    """The runs of each experiment. Experiments of the same science share their runs, whichever they
    are named after."""
    planned: dict[str, Run] = {}
    rows: dict[str, list[str]] = {}
    for experiment in request.experiments:
        needed = runs.plan([experiment], seeds, request.results(results), request.upstream)
        rows[experiment.name] = [run.id for run in needed if run.experiment.name == experiment.name]
        for run in needed:
            planned.setdefault(run.id, run)
    seen = {run.id: observe(run) for run in planned.values()}
    return {name: [seen[run_id] for run_id in ids] for name, ids in rows.items()}


def build(table: Table, rows: Sequence[RowResult], seeds: list[int]) -> Document:
    """The document of measured rows."""
    measured = [row for row in rows if row.seeds]
    experiment = measured[0].seeds[0].run.experiment
    setting = captions.Setting.of(experiment)
    sources = list(dict.fromkeys(row.row.paper.source for row in rows if row.row.paper))
    return {
        "name": table.name,
        "title": captions.title(table, setting),
        "caption": captions.caption(table, setting, rows, seeds),
        "notes": captions.notes(rows),
        **({"figures": list(table.figures)} if table.figures else {}),
        "sources": sources,
        "profile": setting.profile,
        "data": {"name": setting.data, "num_train": setting.num_train, "num_val": setting.num_val},
        "comparable": setting.comparable,
        "complete": all(row.complete for row in rows),
        "seeds": seeds,
        "rows": [measured_row(row, sources, setting.comparable) for row in rows],
    }


def measured_row(row: RowResult, sources: list[str], comparable: bool) -> dict[str, Any]:
    """A row of the document.

    Args:
        sources: Of the paper's values, in the order of their footnotes.
        comparable: Whether it was measured on what the paper measured on.
    """
    paper = row.row.paper
    difference = row.top1.mean - paper.top1 if comparable and row.top1 and paper else None
    return {
        "group": row.row.group,
        "label": row.row.label,
        "experiment": row.row.experiment,
        "baseline": row.row.baseline,
        "state": row.state,
        "top1": runs.to_json(row.top1),
        "best": runs.to_json(row.best),
        "start": runs.to_json(row.start),
        "paper": {**runs.to_json(paper), "footnote": sources.index(paper.source) + 1}
        if paper
        else None,
        "difference": difference,
        "gain": runs.to_json(row.gain),
        "parameters": row.parameters,
        "gmacs": row.gmacs,
        "images_per_s": row.images_per_s,
        "device": row.device,
        "epochs": row.epochs,
        "device_hours": row.device_hours,
        "spec": runs.identity_fields(row.seeds[0].run.experiment) if row.seeds else None,
        "seeds": [_seed(seen) for seen in row.seeds],
    }


def _seed(seen: Observation) -> dict[str, Any]:
    """Everything measured of one run, and where it comes from."""
    return {
        "seed": seen.run.seed,
        "id": seen.run.id,
        "state": seed_state(seen),
        "problem": seen.problem,
        "attempts": seen.num_attempts,
        "older": seen.older,
        "result": _result(seen.result) if seen.result else None,
        "curve": _curve(seen.epochs),
        "provenance": seen.provenance,
    }


def _result(result: dict[str, Any]) -> dict[str, Any]:
    """The result without what names the run, and without the folder of the data, which is its
    maker's alone."""
    kept = {key: value for key, value in result.items() if key not in ("id", "experiment", "seed")}
    data = kept.get("data")
    if isinstance(data, dict):
        kept["data"] = {key: value for key, value in data.items() if key != "root"}
    return kept


def _curve(epochs: list[journal.Record]) -> dict[str, list[float]]:
    """Accuracy after each epoch, thinned evenly; the last epoch always stays."""
    stride = -(-len(epochs) // CURVE_POINTS)
    kept = epochs[::-1][:: stride or 1][::-1]
    return {"epoch": [r["epoch"] for r in kept], "top1": [r[VAL_TOP1] for r in kept]}


def dumps(document: Document) -> str:
    """The document as JSON for a repository: indented, lists of numbers on one line."""
    return _indented(document, "\n") + "\n"


_encode = json.JSONEncoder(ensure_ascii=False).encode
"""In C. The encoder of the standard library that indents is not, and takes most of the time of a
large table."""


def _indented(value: Any, newline: str) -> str:
    """As `json.dumps(value, indent=2)`, but for lists of numbers.

    Args:
        newline: A line break, and the indentation of the line that the value stands in.
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


def load(path: Path) -> Document:
    """A document that `dumps` wrote."""
    return dict(files.read_json(path))
