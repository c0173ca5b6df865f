"""Weights from one file format and layout into another, by way of the model that they are of."""

from __future__ import annotations

import json
from pathlib import Path

from antioversmooth.config import Experiment
from antioversmooth.errors import CheckpointError
from antioversmooth.models import remove_scaling
from antioversmooth.models.weights import LoadReport, load_timm, save_weights
from antioversmooth.runs import to_json
from antioversmooth.training.weights.initial import new_model
from antioversmooth.training.weights.trained import load_trained, run_of


def convert(
    source: str,
    target: Path,
    experiment: Experiment | None = None,
    *,
    fold: bool = False,
    average: bool = False,
) -> LoadReport:
    """Writes weights anew, and returns what became of every key.

    Args:
        source: A run directory, a checkpoint in one, a file of weights in any layout, or
            `timm:<tag>`.
        target: `.safetensors` with timm's keys and metadata, or `.pth` with those of the official
            code.
        experiment: The row that they are of; None: that of the run that `source` belongs to.
        average: Whether it is the moving average of the weights, of a checkpoint that holds one.
        fold: Whether the scaling goes into the weights, which leaves a plain timm model.

    Raises:
        CheckpointError: There are no such weights, they are of another model, or `target` has
            another ending.
        ModelError: The scaling does not fold.
    """
    config = experiment or run_of(Path(source)).experiment
    model = new_model(config, seed=0)
    kind, _, tag = source.partition(":")
    if kind == "timm" and average:
        raise CheckpointError(f"{source}: timm publishes weights without a moving average of them")
    report = (
        load_timm(model, tag)
        if kind == "timm"
        else load_trained(model, Path(source), config, average=average)
    )
    save_weights(
        remove_scaling(model) if fold else model,
        target,
        metadata=_metadata(source, config, fold, average),
    )
    return report


def _metadata(source: str, config: Experiment, folded: bool, average: bool) -> dict[str, str]:
    """What a file of weights does not say of itself."""
    return {
        "experiment": config.name,
        "title": config.title,
        "model": json.dumps(to_json(config.model)),
        "scaling_folded": json.dumps(folded),
        "moving_average": json.dumps(average),
        "source": Path(source).name,
    }
