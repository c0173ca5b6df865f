"""Evaluation of weights outside of training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from antioversmooth.config import DataConfig, Experiment
from antioversmooth.datasets.classes import ClassMap, match_classes
from antioversmooth.datasets.dataset import ValidationSet, open_dataset, open_validation
from antioversmooth.models.load_report import LoadReport
from antioversmooth.training.data.loading import Loaders
from antioversmooth.training.data.workers import loading_failures
from antioversmooth.training.evaluator import Evaluation, Evaluator
from antioversmooth.training.run.distributed import process_group
from antioversmooth.training.weights.classes import known_classes
from antioversmooth.training.weights.initial import new_model
from antioversmooth.training.weights.recorded import run_of_target
from antioversmooth.training.weights.trained import load_trained_weights, require_present


@dataclass(frozen=True)
class WeightsEvaluation:
    """Accuracy of weights, and the data that it was measured on."""

    evaluation: Evaluation
    data: ValidationSet
    classes: ClassMap
    report: LoadReport
    """Of the weights."""
    checksums: Mapping[str, str]
    """Of the whole data set; empty where another than the experiment's was given."""


def evaluate_weights(
    target: Path,
    experiment: Experiment | None = None,
    *,
    data: DataConfig | None = None,
    class_map: Mapping[str, str | int] | str | None = None,
    average: bool = False,
) -> WeightsEvaluation:
    """Accuracy of weights on the validation split, computed by all ranks together.

    Args:
        target: As in `trained`.
        experiment: Defines the model and the evaluation; default: that of the run that `target`
            belongs to.
        data: Another validation set than the experiment's, of any size, with all or some of the
            weights' classes.
        class_map: As `given` in `match_classes`.
        average: Whether to evaluate the moving average that a checkpoint holds.

    Raises:
        CheckpointError: There are no such weights, they are of another model or not finite.
        DataError: The data is missing, differs from the spec, or has a class that the weights do
            not know.
    """
    config = experiment or run_of_target(target).experiment
    require_present(target)
    with process_group(config.runtime) as ranks, loading_failures() as failures:
        whole = None if data else open_dataset(config.data)
        found = whole.validation if whole else open_validation(data or config.data)
        count = config.data.num_classes
        known = known_classes(target, count, found.classes)
        classes = match_classes(found.classes, known, count, class_map)
        loaders = Loaders(
            config,
            seed=0,
            cpus=ranks.info.cpus,
            processes=ranks.info.local_world_size,
            failures=failures,
        )
        model = new_model(config, seed=0)
        report = load_trained_weights(model, target, config, average=average)
        evaluator = Evaluator(config, found.images, loaders, ranks, classes.columns)
        evaluation = evaluator(model.to(ranks.device))
        checksums = whole.checksums() if whole else {}
        return WeightsEvaluation(evaluation, found, classes, report, checksums)
