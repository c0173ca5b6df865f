"""Results: their content, and the numbers in them that follow from the metrics of the run."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from antioversmooth import files
from antioversmooth.config import Experiment
from antioversmooth.errors import ResultError, and_more
from antioversmooth.runs.attempts import Attempt
from antioversmooth.runs.journal import Record
from antioversmooth.runs.metrics import (
    AMOUNT,
    COSINE,
    EMA_TOP1,
    EMA_TOP5,
    IMAGES_PER_SECOND,
    MEASURED,
    PERCENT,
    SPEED,
    START_TOP1,
    START_WEIGHTS,
    TRAIN_LOSS,
    VAL_IMAGES,
    VAL_LOSS,
    VAL_TOP1,
    VAL_TOP5,
    impossible,
    is_number,
)
from antioversmooth.shapes import Shape, misfits

FINAL_METRICS = (VAL_TOP1, VAL_TOP5, VAL_LOSS, VAL_IMAGES, EMA_TOP1, EMA_TOP5)


def outcome(records: Sequence[Record], config: Experiment) -> dict[str, Any]:
    """Accuracies and throughput of a run that is complete.

    Args:
        records: The metrics of the run (`Run.metrics`).

    Raises:
        ResultError: The run was not evaluated at its last step.
    """
    at_start = [r for r in records if r.get(START_TOP1) in PERCENT]
    speeds = [r[IMAGES_PER_SECOND] for r in records if r.get(IMAGES_PER_SECOND) in SPEED]
    return {
        **scores(epoch_records(records), config),
        # before training; None for training from scratch
        "start": _start(at_start[-1]) if at_start else None,
        "images_per_s": statistics.median(speeds) if speeds else None,
    }


def scores(epochs: Sequence[Record], config: Experiment) -> dict[str, Any]:
    """Accuracies of the last and the best epoch, and of the start if the first record has it.

    Args:
        epochs: Records of the finished epochs.

    Raises:
        ResultError: The run was not evaluated at its last step.
    """
    if reason := incomplete_reason(epochs, config):
        raise ResultError(f"{config.name}: {reason}")
    final = {key: epochs[-1][key] for key in FINAL_METRICS if key in epochs[-1]}
    if wrong := next(impossible(final), None):
        raise ResultError(f"{config.name}: invalid result after the last step: {wrong}")
    at_start = {"start": _start(epochs[0])} if epochs[0].get(START_TOP1) in PERCENT else {}
    return {"metrics": final, "best": _best(epochs, config.recipe.epochs), **at_start}


def _start(record: Record) -> dict[str, Any]:
    """Accuracy of the initial weights, and how they were loaded where that was recorded."""
    loaded = {"weights": record[START_WEIGHTS]} if START_WEIGHTS in record else {}
    return {VAL_TOP1: record[START_TOP1], **loaded}


def _best(evaluated: Sequence[Record], epochs: int) -> dict[str, float] | None:
    """The first best epoch; None where the evaluation of an epoch is lost.

    It is chosen on the validation set: not for comparisons.
    """
    trained = [r for r in evaluated if r["step"] > 0] if epochs else evaluated
    if len(trained) < epochs:
        return None
    best = max(trained, key=lambda r: float(r[VAL_TOP1]))
    return {VAL_TOP1: best[VAL_TOP1], "epoch": best["epoch"]}


def effort(attempts: Sequence[Attempt], finished: float) -> dict[str, float | int]:
    """Wall seconds, device-hours and number of attempts of a run that is complete.

    Args:
        attempts: All, each of them with its last sign of life (`extend_last_seen`).
        finished: When the last one wrote the result, in seconds since 1970.
    """
    counted = [*attempts[:-1], *(replace(one, ended=finished) for one in attempts[-1:])]
    return {
        "seconds": sum(attempt.seconds for attempt in counted),
        "device_hours": sum(attempt.device_seconds for attempt in counted) / 3600,
        "attempts": len(counted),
    }


def epoch_records(records: Iterable[Record]) -> list[Record]:
    """One record for each finished epoch, by step: the last one with the accuracy after it."""
    evaluated = {r["step"]: r for r in records if _is_evaluation(r)}
    return [evaluated[step] for step in sorted(evaluated)]


def _is_evaluation(record: Record) -> bool:
    whole = type(record.get("step")) is int and type(record.get("epoch")) is int
    return whole and record.get(VAL_TOP1) in PERCENT


def last_epoch_loss(records: Iterable[Record], config: Experiment) -> float | None:
    """Mean training loss over the steps of the last epoch; None without a record of its end.

    Each record has the mean over the steps since the one before; one ends each epoch.

    Args:
        records: The metrics of the run (`Run.metrics`).
    """
    start = config.total_steps - config.steps_per_epoch if config.total_steps else 0
    losses = {r["step"]: r[TRAIN_LOSS] for r in records if is_number(r.get(TRAIN_LOSS))}
    steps = sorted(step for step in losses if step > start)
    if not steps or steps[-1] != config.total_steps:
        return None
    total: float = sum(losses[step] * (step - before) for before, step in pairwise([start, *steps]))
    return total / (config.total_steps - start)


def incomplete_reason(epochs: Sequence[Record], config: Experiment) -> str:
    """Why a run is not complete; empty where its last evaluation is that of its last step.

    Args:
        epochs: Records of its finished epochs.
    """
    if not epochs:
        return "metrics.jsonl holds no evaluation of this run"
    step = epochs[-1]["step"]
    if step == config.total_steps:
        return ""
    return f"the last evaluation in metrics.jsonl is of step {step} of {config.total_steps}"


def read_result(path: Path, run_id: str) -> dict[str, Any] | None:
    """Content of result.json; None where there is none.

    Raises:
        ResultError: It is torn, of another run, or has not the shape of a result.
    """
    try:
        result = files.read_json(path)
    except OSError as err:
        raise ResultError(f"{path} cannot be read: {err.strerror}") from err
    except ValueError as err:
        raise ResultError(f"{path} is not JSON ({err}); move it away and launch again") from err
    if result is None:
        return None
    if not isinstance(result, dict) or result.get("id") != run_id:
        found = result.get("id") if isinstance(result, dict) else None
        raise ResultError(f"{path} is of run {found}, not of {run_id}")
    if problems := list(misfits(result, RESULT)) or list(impossible(result["metrics"])):
        raise ResultError(
            f"{path} is not the result of a run ({and_more(problems, 3)}); move it away and launch"
            " again"
        )
    return result


def counted_images(result: Mapping[str, Any], num_val: int) -> int:
    """Validation images that the accuracies of a result are over: those that could be read.

    Results of old versions say it only of runs that train nothing.

    Args:
        num_val: All validation images.
    """
    evaluation = result.get("evaluation") or {}
    counts = result["metrics"].get(VAL_IMAGES), evaluation.get("num_images")
    return next((count for count in counts if type(count) is int and count > 0), num_val)


_SCORES = {VAL_TOP1: PERCENT, "*": (float, None)}
_METRICS = {key: shape for key, shape in MEASURED.items() if key != f"{VAL_TOP1}?"} | _SCORES
_CHECKPOINT = {
    "file": re.compile(r"(checkpoints/)?[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"),
    "sha256": re.compile("[0-9a-f]{64}"),
}
RESULT: dict[str, Shape] = {
    "metrics": _METRICS,
    "best": (_SCORES, None),
    "start?": ({**_SCORES, "weights?": {"*": (int, str)}}, None),
    "parameters": range(2**63),
    "gmacs": AMOUNT,
    "images_per_s": (SPEED, None),
    "device": str,
    "device_hours": AMOUNT,
    "world_size?": range(1, 2**31),
    "epochs?": int,
    "steps?": int,
    "attempts?": int,
    "seconds?": AMOUNT,
    "finished?": float,
    "data?": dict,
    "evaluation?": dict,
    "checkpoint": (_CHECKPOINT, None),
    "similarity?": ({"images?": int, "*": ([COSINE], float)}, None),
}
"""The shape (shapes.py) of `result.json`: of all numbers that tables read, and of all names."""
