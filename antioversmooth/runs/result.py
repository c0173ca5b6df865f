"""What a result is, and which of its numbers can be derived again from the journal of the run, by
whoever has it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from antioversmooth.runs.journal import Record
from antioversmooth.runs.metrics import (
    EMA_TOP1,
    EMA_TOP5,
    IMAGES_PER_SECOND,
    START_TOP1,
    VAL_LOSS,
    VAL_TOP1,
    VAL_TOP5,
)

FINAL_METRICS = (
    VAL_TOP1,
    VAL_TOP5,
    VAL_LOSS,
    EMA_TOP1,
    EMA_TOP5,
)


def outcome(records: Sequence[Record]) -> dict[str, Any]:
    """Accuracies and throughput.

    Args:
        records: The metrics of the run (`Run.metrics`), with at least one evaluation among them.
    """
    evaluated = [r for r in records if VAL_TOP1 in r]
    return {
        "metrics": {key: evaluated[-1][key] for key in FINAL_METRICS if key in evaluated[-1]},
        "best": _best(evaluated),
        "start": _start(records),
        "images_per_s": _median(records, IMAGES_PER_SECOND),
    }


def _best(evaluated: Sequence[Record]) -> dict[str, float]:
    """The best epoch, the first of several; chosen on the validation set, so no number to compare
    with."""
    trained = [r for r in evaluated if r["step"] > 0] or evaluated
    best = max(trained, key=lambda r: float(r[VAL_TOP1]))
    return {VAL_TOP1: best[VAL_TOP1], "epoch": best["epoch"]}


def _start(records: Sequence[Record]) -> dict[str, float] | None:
    """What the initial weights reached before any training; None where training started from
    scratch."""
    at_start = [r[START_TOP1] for r in records if START_TOP1 in r]
    return {VAL_TOP1: at_start[-1]} if at_start else None


def _median(records: Sequence[Record], key: str) -> float | None:
    values = [r[key] for r in records if key in r]
    return statistics.median(values) if values else None


_NUMBER = (int, float)
REQUIRED: dict[str, tuple[type, ...]] = {
    "metrics": (dict,),
    "best": (dict,),
    "parameters": (int,),
    "gmacs": _NUMBER,
    "images_per_s": (*_NUMBER, type(None)),
    "device": (str,),
    "device_hours": _NUMBER,
    "checkpoint": (dict, type(None)),
}
"""What a table takes from `result.json`, and what makes a run done."""


def lacking(result: Mapping[str, Any]) -> Iterator[str]:
    """Keys that are missing, or whose value is of another type or no number. A run directory may
    come from anywhere."""
    for key, kinds in REQUIRED.items():
        value = result.get(key, ())
        if not isinstance(value, kinds) or (isinstance(value, float) and not math.isfinite(value)):
            yield key
    for part in ("metrics", "best", "start"):
        values = result.get(part)
        if isinstance(values, dict) and not _is_score(values.get(VAL_TOP1)):
            yield f"{part}.{VAL_TOP1}"
    layers = (
        (result.get("similarity") or {}).get("tokens", [])
        if isinstance(result.get("similarity"), dict)
        else []
    )
    if not isinstance(layers, list) or not all(isinstance(layer, _NUMBER) for layer in layers):
        yield "similarity.tokens"


def _is_score(value: object) -> bool:
    return isinstance(value, _NUMBER) and math.isfinite(value)
