"""The numbers of an evaluation without training, as JSON and as text."""

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
    # Imports torch.
    from antioversmooth.training.evaluator import Evaluation


def with_root(data: DataConfig, root: Path) -> DataConfig:
    """The data set, with its images in another folder.

    Raises:
        DataError: The data set is a file of a package.
    """
    if data.source in PACKAGED:
        raise DataError(
            f"--data {root}: {data.name} is a file of an installed package; leave --data out"
        )
    return replace(data, root=str(root))


def record(
    target: Path, experiment: Experiment, data: DataConfig, evaluation: Evaluation
) -> dict[str, Any]:
    """The evaluation of a run or a checkpoint, as JSON: subject, data and numbers.

    The accuracy of a class without images is null.
    """
    return {
        **_subject(str(target), experiment, data),
        **evaluation.metrics(),
        **evaluation.detail(),
    }


def of_run(run: Run) -> dict[str, Any] | None:
    """The same record of a run that only evaluates; None until it is done."""
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


def text(record: dict[str, Any]) -> str:
    """A record as lines of text, without the accuracy of each class."""
    lines = [
        ("weights", record["weights"]),
        ("model", record["title"]),
        *(("form", form) for form in record["forms"]),
        ("data", f"{record['data']}, {record['num_images']:,} validation images"),
        *(("left out", f"{name} (cannot be read)") for name in record["unreadable"]),
        ("top-1", f"{record['val/top1']:.2f} %"),
        ("top-5", f"{record['val/top5']:.2f} %"),
        ("loss", f"{record['val/loss']:.4f}"),
        ("speed", f"{record['images_per_s']:.0f} images/s, loading included"),
    ]
    return "\n".join(f"{name:<9}{value}" for name, value in lines)
