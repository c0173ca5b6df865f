"""Names of the classes that weights know, compared with those of data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from timm.data import ImageNetInfo
from torch import nn

from antioversmooth.datasets.classes import (
    ClassMap,
    classes_checksum,
    is_numbered,
    match_names,
)
from antioversmooth.errors import CheckpointError, and_more
from antioversmooth.models.state_files import read_classes
from antioversmooth.models.weights import classifier_parameters
from antioversmooth.runs.recorded_data import CLASSES, recorded_classes, recorded_data


def known_classes(target: Path, count: int, data: Sequence[str]) -> Sequence[str] | None:
    """Names of the classes of weights, in order; None where they are not recorded.

    Weights with 1000 classes and without names count as ImageNet-1k's, for data of its classes.

    Args:
        target: As in `trained`.
        count: Number of the weights' classes.
        data: Names of the data's classes.
    """
    names: Sequence[str] | None = recorded_names(target)
    if names is None and count == len(synsets := ImageNetInfo().label_names()):
        names = synsets if set(data) <= set(synsets) else None
    return names if names is not None and len(names) == count else None


def recorded_names(target: Path) -> list[str] | None:
    """Names of the classes of weights as their file or run records them, in order.

    Raises:
        CheckpointError: They are not those of which the run recorded the checksum.
    """
    run_dir = target if target.is_dir() else target.parent.parent
    in_run = target.is_dir() or target.parent.name == "checkpoints"
    names = None if target.is_dir() else read_classes(target)
    if names is None and in_run:
        names = recorded_classes(run_dir)
    recorded = recorded_data(run_dir).get("classes") if in_run else None
    if names is not None and recorded not in (None, classes_checksum(names)):
        raise CheckpointError(
            f"{target}: its classes ({and_more(names, 3)}) are not those of provenance.json: one of"
            f" {CLASSES}, provenance.json and the checkpoint was edited, or is of another run"
        )
    return names


def published_classes(tag: str) -> Sequence[str] | None:
    """Names of the classes of weights that timm publishes, in order; None where it has none."""
    return ImageNetInfo().label_names() if "in1k" in tag.rpartition(".")[2].split("_") else None


def match_classifier(
    model: nn.Module, data: Sequence[str], weights: Sequence[str] | None
) -> ClassMap | None:
    """Puts the rows of a model's classifiers into the order of the data's classes.

    Returns how the classes were matched; None, and changes nothing, where they are not the same.

    Args:
        data: Names of the data's classes, in order.
        weights: Those of the model's classes, as many; None: not recorded.
    """
    if weights is None:
        return ClassMap(None, "by number: the weights do not record names")
    matched = match_names(data, weights)
    if matched is None and (is_numbered(weights) or is_numbered(data)):
        whose = "weights" if is_numbered(weights) else "data"
        return ClassMap(None, f"by number: the classes of the {whose} have no names")
    if matched is not None and matched.columns is not None:
        with torch.no_grad():
            for parameter in classifier_parameters(model).values():
                parameter.copy_(parameter[list(matched.columns)])
    return matched
