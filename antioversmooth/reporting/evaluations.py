"""What an evaluation on its own has found, as JSON and for people."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antioversmooth.config import DataConfig, Experiment
from antioversmooth.errors import DataError
from antioversmooth.reporting import deviations
from antioversmooth.runs import plain
from antioversmooth.sources.packaged import PACKAGED

if TYPE_CHECKING:
    from antioversmooth.training.evaluator import Evaluation  # at run time it would bring torch along


def elsewhere(data: DataConfig, root: Path) -> DataConfig:
    """The data set in another folder.

    Raises:
        DataError: It is no data set of a folder.
    """
    if data.source in PACKAGED:
        raise DataError(f"--data {root}: {data.name} is a file of an installed package; leave --data out")
    return replace(data, root=str(root))


def record(target: Path, experiment: Experiment, data: DataConfig, found: Evaluation) -> dict[str, Any]:
    """JSON: what was evaluated, in which form, on what, and what it reached; null for a class without images."""
    return {
        "weights": str(target),
        "experiment": experiment.name,
        "title": experiment.title,
        "forms": list(deviations.of_model(experiment.model)),
        "model": plain(experiment.model),
        "data": data.name,
        "num_images": found.num_images,
        "unreadable": list(found.unreadable),
        **found.metrics(),
        "images_per_s": found.images_per_s,
        "per_class_top1": [None if math.isnan(value) else value for value in found.per_class],
    }


def text(told: dict[str, Any]) -> str:
    """A record for people, without the classes."""
    lines = [
        ("weights", told["weights"]),
        ("model", told["title"]),
        *(("form", form) for form in told["forms"]),
        ("data", f"{told['data']}, {told['num_images']:,} validation images"),
        *(("left out", f"{name} (cannot be read)") for name in told["unreadable"]),
        ("top-1", f"{told['val/top1']:.2f} %"),
        ("top-5", f"{told['val/top5']:.2f} %"),
        ("loss", f"{told['val/loss']:.4f}"),
        ("speed", f"{told['images_per_s']:.0f} images/s, loading included"),
    ]
    return "\n".join(f"{name:<9}{value}" for name, value in lines)
