"""Parameters and multiply-adds of a model."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from antioversmooth.config import Experiment
from antioversmooth.models.factory import build_model


def measure_spec(experiment: Experiment) -> tuple[int, float]:
    """Parameters and G multiply-adds of an experiment's model, which is built without weights."""
    config, data = experiment.model, experiment.data
    with torch.device("meta"):
        model = build_model(config, num_classes=data.num_classes, in_channels=data.in_channels)
    side = config.image_size
    return count_parameters(model), multiply_adds(model, (data.in_channels, side, side))


def count_parameters(model: nn.Module) -> int:
    """Number of trainable parameters, scales included."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def multiply_adds(model: nn.Module, image_shape: Sequence[int]) -> float:
    """G multiply-adds of an image's forward pass: matrix products, convolutions, attention only.

    Nothing is computed: a copy of the model runs on the meta device.

    Args:
        image_shape: [channels, height, width]
    """
    shapes = copy.deepcopy(model).to("meta").eval().requires_grad_(False)
    counter = FlopCounterMode(display=False)
    with counter:
        shapes(torch.empty(1, *image_shape, device="meta"))
    # the counter counts a multiply-add as two operations
    return counter.get_total_flops() / 2 / 1e9
