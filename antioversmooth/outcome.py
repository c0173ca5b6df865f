"""What the journal of a run amounts to: the numbers of `result.json` that can be derived again, by whoever has it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from antioversmooth import journal
from antioversmooth.journal import Record

FINAL_METRICS = (journal.VAL_TOP1, journal.VAL_TOP5, journal.VAL_LOSS, journal.EMA_TOP1, journal.EMA_TOP5)


def outcome(records: Sequence[Record]) -> dict[str, Any]:
    """Accuracies and throughput.

    Args:
        records: The metrics of the run (`Run.metrics`), with at least one evaluation among them.
    """
    evaluated = [r for r in records if journal.VAL_TOP1 in r]
    return {
        "metrics": {key: evaluated[-1][key] for key in FINAL_METRICS if key in evaluated[-1]},
        "best": _best(evaluated),
        "start": _start(records),
        "images_per_s": _median(records, journal.IMAGES_PER_SECOND),
    }


def _best(evaluated: Sequence[Record]) -> dict[str, float]:
    """The best epoch, the first of several; chosen on the validation set, so no number to compare with."""
    trained = [r for r in evaluated if r["step"] > 0] or evaluated
    best = max(trained, key=lambda r: float(r[journal.VAL_TOP1]))
    return {journal.VAL_TOP1: best[journal.VAL_TOP1], "epoch": best["epoch"]}


def _start(records: Sequence[Record]) -> dict[str, float] | None:
    """What the initial weights reached before any training; None where training started from scratch."""
    at_start = [r[journal.START_TOP1] for r in records if journal.START_TOP1 in r]
    return {journal.VAL_TOP1: at_start[-1]} if at_start else None


def _median(records: Sequence[Record], key: str) -> float | None:
    values = [r[key] for r in records if key in r]
    return statistics.median(values) if values else None
