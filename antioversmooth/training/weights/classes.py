"""Names of the classes that weights know."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from timm.data import ImageNetInfo

from antioversmooth.models.state_files import read_classes
from antioversmooth.runs.recorded_data import recorded_classes


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
    """Names of the classes of weights as their file or run records them, in order."""
    if target.is_dir():
        return recorded_classes(target)
    names = read_classes(target)
    if names is None and target.parent.name == "checkpoints":
        # written before checkpoints held names
        names = recorded_classes(target.parent.parent)
    return names
