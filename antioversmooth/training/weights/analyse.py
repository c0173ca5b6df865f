"""From trained weights to what there is to see of their layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from antioversmooth import files
from antioversmooth.analysis.measures import measure
from antioversmooth.analysis.record import Analysis
from antioversmooth.config import Experiment
from antioversmooth.training.data.augmentation import DevicePreprocessing
from antioversmooth.training.data.images import open_data
from antioversmooth.training.train import make_loaders
from antioversmooth.training.weights.trained import (
    only_evaluates,
    run_of,
    trained_model,
    weights_of,
)

BATCH = 32
"""Images in one pass: the attention maps of one layer of DeiT-S are 30 MB then."""


def analyse(target: Path, experiment: Experiment | None = None, *, num_images: int) -> Analysis:
    """Everything that is measured of layers, on the first validation images; on every GPU that
    there is.

    Args:
        target: A run directory (its newest whole checkpoint, or the weights that it only
            evaluated), a checkpoint in one, or a file of weights.
        experiment: The model and its data; None: those of the run that `target` belongs to.
        num_images: At most so many.

    Raises:
        CheckpointError: There are no such weights, or they are of another model.
        DataError: The data is missing, or is not what the spec says.
    """
    config = experiment or run_of(target).experiment
    model = trained_model(target, config)
    batches = validation_batches(config, num_images)
    found = measure(model, batches, title=config.title, weights=_name(target, config))
    return replace(found, data=f"{config.data.name}, {config.profile} profile")


def _name(target: Path, config: Experiment) -> str:
    """Which weights they are."""
    if only_evaluates(target, config):
        return str(config.recipe.init_from)
    path = weights_of(target)
    return Analysis.weights_name(path.name, files.sha256(path))


def validation_batches(config: Experiment, num_images: int) -> Iterator[Tensor]:
    """The first validation images in batches [B, C, S, S], as evaluation sees them; one batch at a
    time is held."""
    small = replace(config, runtime=replace(config.runtime, eval_batch=BATCH))
    preprocessing = DevicePreprocessing(config.data, seed=0, device=torch.device("cpu"))
    left = num_images
    for batch in make_loaders(small, seed=0).evaluation(open_data(config.data).val):
        yield preprocessing.normalise(batch.images[:left])
        left -= len(batch.images)
        if left <= 0:
            return
