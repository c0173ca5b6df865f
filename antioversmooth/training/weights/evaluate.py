"""Evaluation of weights outside of training."""

from __future__ import annotations

from pathlib import Path

from antioversmooth.config import DataConfig, Experiment
from antioversmooth.datasets.dataset import open_dataset
from antioversmooth.training.data.loading import Loaders
from antioversmooth.training.evaluator import Evaluation, Evaluator
from antioversmooth.training.run.distributed import process_group
from antioversmooth.training.weights.trained import run_of_target, trained_model


def evaluate_weights(
    target: Path,
    experiment: Experiment | None = None,
    *,
    data: DataConfig | None = None,
    average: bool = False,
) -> Evaluation:
    """Accuracy of weights on the validation split, computed by all ranks together.

    Args:
        target: As in `trained`.
        experiment: Defines the model and the evaluation; default: that of the run that `target`
            belongs to.
        data: Another data set than the experiment's, with the same classes.
        average: Whether to evaluate the moving average that a checkpoint holds.

    Raises:
        CheckpointError: There are no such weights, or they are of another model.
        DataError: The data is missing, or differs from the spec.
    """
    config = experiment or run_of_target(target).experiment
    with process_group(config.runtime) as ranks:
        images = open_dataset(data or config.data).val
        loaders = Loaders(config, seed=0, cpus=ranks.info.cpus)
        model = trained_model(target, config, average=average)
        return Evaluator(config, images, loaders, ranks)(model.to(ranks.device))
