"""The model of a run in the layout of the Hugging Face hub, as timm writes and reads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from timm.models._hub import save_config_for_hf
from torch import nn

from antioversmooth.config import Experiment
from antioversmooth.errors import CheckpointError
from antioversmooth.models.architecture import architecture
from antioversmooth.runs import Run
from antioversmooth.runs.recorded_data import recorded_classes
from antioversmooth.training.weights.convert import convert_weights
from antioversmooth.training.weights.initial import new_model
from antioversmooth.training.weights.trained import load_trained_weights

CONFIG = "config.json"
WEIGHTS = "model.safetensors"

FOLDED = 1e-4
"""Largest difference of logits that folding may make, as a part of the largest logit."""


class Written(NamedTuple):
    """A model in a folder."""

    architecture: str
    """timm's name, or ours in its registry."""
    needs_package: bool
    """Whether timm knows it only once `antioversmooth.models` is imported."""
    difference: float
    """Largest difference of its logits from the run's, as a part of the largest logit; 0: equal to
    the bit."""


def write_model(
    run: Run, folder: Path, *, fold: bool, average: bool, licence: str | None
) -> Written:
    """Writes config.json and model.safetensors of a done run, and loads them by timm again.

    Args:
        folder: Is created.
        fold: Whether to fold the method into the weights, which leaves a plain timm model.
        average: Whether to write the moving average of the weights.
        licence: Of the weights, as the hub names it.

    Raises:
        CheckpointError: The weights are missing or not what the result names; or timm computes
            other logits than the run.
        ModelError: The method does not fold.
    """
    config, data = run.experiment, run.experiment.data
    convert_weights(str(run.dir), folder / WEIGHTS, fold=fold, average=average)
    name, arguments = found = architecture(
        config.model, folded=fold, attention_dropout=config.recipe.attention_dropout
    )
    arguments = {**arguments, "in_chans": data.in_channels}
    model = timm.create_model(
        name,
        num_classes=data.num_classes,
        pretrained_cfg_overlay={**_preprocessing(config), "license": licence},
        **arguments,
    )
    names = recorded_classes(run.dir)
    labels = {"label_names": names} if names else {}
    save_config_for_hf(model, str(folder / CONFIG), model_config=labels, model_args=arguments)
    difference = _difference(run, folder, average=average)
    if difference > (FOLDED if fold else 0):
        raise CheckpointError(
            f"{run.name}: logits of the model that timm loads from {CONFIG} and {WEIGHTS} differ"
            f" from the run's, by {difference:.1e} of the largest logit; nothing is written"
        )
    return Written(name, found.needs_package, difference)


def _preprocessing(config: Experiment) -> Mapping[str, Any]:
    """Fields of timm's `pretrained_cfg` by which its transform is that of the run's evaluation."""
    data, recipe, side = config.data, config.recipe, config.model.image_size
    return {
        "input_size": (data.in_channels, side, side),
        "num_classes": data.num_classes,
        "mean": tuple(data.mean),
        "std": tuple(data.std),
        "crop_pct": recipe.eval_crop if recipe.resizes else 1.0,
        "crop_mode": "center",
        "interpolation": recipe.eval_interpolation or recipe.interpolation,
        # nothing of the entry whose name it has
        **dict.fromkeys(("url", "hf_hub_id", "hf_hub_filename", "origin_url", "tag", "file")),
    }


def _difference(run: Run, folder: Path, *, average: bool) -> float:
    """Largest difference of logits, for two images of normal numbers."""
    config = run.experiment
    ours = new_model(config, seed=0)
    load_trained_weights(ours, run.dir, config, average=average)
    theirs: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True)
    side = config.model.image_size
    shape = (2, config.data.in_channels, side, side)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = (model.eval()(images) for model in (ours, theirs))
    return float((found - expected).abs().max() / expected.abs().max())
