"""Analysis of trained weights: measures of each layer on validation images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from antioversmooth import weight_files
from antioversmooth.analysis.measures import measure
from antioversmooth.analysis.record import Analysis
from antioversmooth.config import Experiment
from antioversmooth.datasets.dataset import open_dataset
from antioversmooth.datasets.images import Images
from antioversmooth.errors import CheckpointError
from antioversmooth.runs.recorded_data import describe_change_of_weights
from antioversmooth.training.data.augmentation import DevicePreprocessing
from antioversmooth.training.data.loading import Loaders
from antioversmooth.training.weights.initial import new_model
from antioversmooth.training.weights.recorded import run_of_target
from antioversmooth.training.weights.trained import (
    is_evaluation_only,
    load_trained_weights,
    weights_file,
)

BATCH = 32
"""Images in one forward pass, in which the attention maps of a layer of DeiT-S take 30 MB."""


def analyse(target: Path, experiment: Experiment | None = None, *, num_images: int) -> Analysis:
    """All measures of the model's layers, on validation images and on every GPU.

    Args:
        target: As in `trained`.
        experiment: Defines the model and its data; default: that of the run that `target` belongs
            to.
        num_images: Maximum number of images.

    Raises:
        CheckpointError: There are no such weights, they are of another model, or measures of them
            are not finite.
        DataError: The data is missing, or differs from the spec.
    """
    config = experiment or run_of_target(target).experiment
    model = new_model(config, seed=0)
    report = load_trained_weights(model, target, config)
    dataset = open_dataset(config.data)
    batches = validation_batches(config, dataset.val, num_images)
    analysis = measure(model, batches, title=config.title, weights=_weights_name(target, config))
    if not _is_finite(analysis.measures):
        raise CheckpointError(
            f"{target}: measures of its layers are not finite numbers: the weights have diverged"
        )
    data = f"{config.data.name}, {config.profile} profile"
    sums = dataset.checksums()
    changed = describe_change_of_weights(target, sums)
    loaded = report.lines()
    return replace(
        analysis,
        data=data,
        loaded=loaded,
        changed=changed,
        checksums=dict(sums),
        selection=Analysis.evenly_spaced(num_images, len(dataset.val.labels)),
    )


def _is_finite(value: Any) -> bool:
    if isinstance(value, dict | list):
        return all(map(_is_finite, value.values() if isinstance(value, dict) else value))
    return math.isfinite(value)


def _weights_name(target: Path, config: Experiment) -> str:
    if is_evaluation_only(target):
        return str(config.recipe.init_from)
    path = weights_file(target)
    return Analysis.weights_name(path.name, weight_files.checksum(path))


def validation_batches(config: Experiment, images: Images, num_images: int) -> Iterator[Tensor]:
    """Validation images in batches [B, C, S, S], preprocessed as for evaluation.

    They are spread evenly over the split. Only one batch is in memory at a time.
    """
    small = replace(config, runtime=replace(config.runtime, eval_batch=BATCH))
    preprocessing = DevicePreprocessing(config.data, seed=0, device=torch.device("cpu"))
    for batch in Loaders(small, seed=0).sample(images, num_images):
        yield preprocessing.normalise(batch.images)
