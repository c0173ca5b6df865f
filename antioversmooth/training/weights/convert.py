"""Conversion of weights between file formats and layouts, by loading them into their model."""

from __future__ import annotations

import json
from pathlib import Path

from antioversmooth.config import Experiment
from antioversmooth.errors import CheckpointError
from antioversmooth.models import remove_method
from antioversmooth.models.load_report import LoadReport
from antioversmooth.models.state_files import save_weights
from antioversmooth.models.weights import Purpose, load_timm
from antioversmooth.training.weights.classes import published_classes, recorded_names
from antioversmooth.training.weights.initial import new_model
from antioversmooth.training.weights.recorded import record_of, run_of_target
from antioversmooth.training.weights.trained import load_trained_weights


def convert_weights(
    source: str,
    target: Path,
    experiment: Experiment | None = None,
    *,
    fold: bool = False,
    average: bool = False,
    key: str = "",
) -> LoadReport:
    """Writes weights in another format, and reports what was done with each key.

    Args:
        source: A run directory, a checkpoint in one, a file of weights in any layout, or
            `timm:<tag>`.
        target: `.safetensors` with timm's keys and metadata, or `.pth` with those of the official
            code.
        experiment: The row of the weights; default: that of the run that `source` belongs to.
        fold: Whether to fold the scaling into the weights, which leaves a plain timm model.
        average: Whether to convert the moving average that a checkpoint holds.
        key: The key or the prefix of the weights, in a file that holds several.

    Raises:
        CheckpointError: There are no such weights, they are of another model, or `target` has
            another extension.
        ModelError: The scaling cannot be folded.
    """
    config = experiment or run_of_target(Path(source)).experiment
    model = new_model(config, seed=0)
    kind, _, tag = source.partition(":")
    purpose = Purpose.conversion
    if kind == "timm" and (average or key):
        raise CheckpointError(f"{source}: timm publishes one set of these weights alone")
    report = (
        load_timm(model, tag, purpose=purpose)
        if kind == "timm"
        else load_trained_weights(
            model, Path(source), config, purpose=purpose, average=average, key=key
        )
    )
    classes = published_classes(tag) if kind == "timm" else recorded_names(Path(source))
    plain = remove_method(model) if fold else model
    save_weights(plain, target, metadata=_metadata(source, config, fold, average), classes=classes)
    return report


def _metadata(source: str, config: Experiment, folded: bool, average: bool) -> dict[str, str]:
    """Metadata of the file: the model, and how the weights were made."""
    return {
        "experiment": config.name,
        "title": config.title,
        **record_of(config.model, folded=folded),
        "moving_average": json.dumps(average),
        "source": Path(source).name,
    }
