"""Names of the metrics of a run: one spelling from metrics.jsonl to the header of a table.

{"time", "attempt", "step", "epoch", <metric>: <number>, ...} is a line of metrics.jsonl. Accuracies
are in percent.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from antioversmooth.shapes import Bounds, misfits

TRAIN_LOSS = "train/loss"
TRAIN_LR = "train/lr"
TRAIN_METHOD_LR = "train/method_lr"
"""Of the parameters of a method, where `recipe.method_lr_factor` is not 1."""
TRAIN_GRAD_NORM = "train/grad_norm"
TRAIN_TERM = "train/term_"
"""Prefix of the terms that a method adds to the loss, each without its weight: `train/loss` holds
all of them, weighted."""
VAL_LOSS = "val/loss"
VAL_TOP1 = "val/top1"
VAL_TOP5 = "val/top5"
VAL_IMAGES = "val/images"
"""Validation images that the accuracies are over, where others could not be read."""
START_WEIGHTS = "start/weights"
"""Numbers of tensors that were loaded, reset, missing: beside `start/top1`."""
START_TOP1 = "start/top1"
"""Of the initial weights: in the record of step 0 of a run that starts from weights."""
EMA_TOP1 = "ema/top1"
EMA_TOP5 = "ema/top5"
EPOCH_SECONDS = "time/epoch_s"
IMAGES_PER_SECOND = "throughput/images_per_s"
PEAK_MEMORY = "memory/peak_gib"
SYSTEM = "system/"
"""Prefix of measurements of the machine (training/run/system.py); MLflow shows them in a tab."""
TOKEN_SIMILARITY = "similarity/tokens"
"""Mean cosine between tokens after a block; its records also hold `layer`, from 1 at the input."""
OFF_DIAGONAL_SIMILARITY = "similarity/off_diagonal"
"""The same between patch tokens, signed, without the diagonal; in the same records."""
SIMILARITY_IMAGES = 128
"""Validation images at most that the similarities are measured on."""

PERCENT = Bounds(0, 100)
AMOUNT = Bounds(0)
SPEED = Bounds(1e-9)
"""Images per second."""
COSINE = Bounds(-1.001, 1.001)
"""Sums of float32 round beyond 1."""
ACCURACIES = frozenset({VAL_TOP1, VAL_TOP5, EMA_TOP1, EMA_TOP5, START_TOP1})
MEASURED = {
    **{f"{key}?": PERCENT for key in sorted(ACCURACIES)},
    f"{VAL_LOSS}?": AMOUNT,
    f"{VAL_IMAGES}?": range(1, 2**63),
    f"{IMAGES_PER_SECOND}?": SPEED,
    f"{TOKEN_SIMILARITY}?": COSINE,
    f"{OFF_DIAGONAL_SIMILARITY}?": COSINE,
}
"""The shape (shapes.py) of the metrics that results are made of: all values that they can have."""


def impossible(metrics: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each value that cannot be measured, as 150 % or a top-1 above the top-5."""
    wrong = list(misfits(dict(metrics), MEASURED))
    yield from wrong
    for top1, top5 in ((VAL_TOP1, VAL_TOP5), (EMA_TOP1, EMA_TOP5)):
        if not wrong and metrics.get(top1, 0) > metrics.get(top5, 100):
            yield f"{top1} is {metrics[top1]}, above {top5}, {metrics[top5]}"


def is_number(value: object) -> bool:
    """Whether a value is a finite number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return -sys.float_info.max <= value <= sys.float_info.max
