"""What an evaluation on its own has found, as JSON and for people."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antioversmooth.config import DataConfig, Experiment
from antioversmooth.datasets.layouts.packaged import PACKAGED
from antioversmooth.errors import DataError
from antioversmooth.reporting.table import deviations
from antioversmooth.runs import Run, to_json

if TYPE_CHECKING:
    # at run time it would bring torch along
    from antioversmooth.training.evaluator import Evaluation


def elsewhere(data: DataConfig, root: Path) -> DataConfig:
    """The data set in another folder.

    Raises:
        DataError: It is no data set of a folder.
    """
    if data.source in PACKAGED:
        raise DataError(
            f"--data {root}: {data.name} is a file of an installed package; leave --data out"
        )
    return replace(data, root=str(root))


def record(
    target: Path, experiment: Experiment, data: DataConfig, found: Evaluation
) -> dict[str, Any]:
    """JSON: what was evaluated, in which form, on what, and what it reached; null for a class
    without images."""
    return {**_subject(str(target), experiment, data), **found.metrics(), **found.detail()}


def of_run(run: Run) -> dict[str, Any] | None:
    """The same of a run that only evaluates; None while it is not done."""
    result = run.result()
    if result is None or "evaluation" not in result:
        return None
    weights = str(run.upstream.dir) if run.upstream else str(run.experiment.recipe.init_from)
    subject = _subject(weights, run.experiment, run.experiment.data)
    return {**subject, **result["metrics"], **result["evaluation"]}


def _subject(weights: str, experiment: Experiment, data: DataConfig) -> dict[str, Any]:
    return {
        "weights": weights,
        "experiment": experiment.name,
        "title": experiment.title,
        "forms": list(deviations.of_model(experiment.model)),
        "model": to_json(experiment.model),
        "data": data.name,
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
