"""Evaluation on its own: of a run, of one of its checkpoints, or of a file of weights."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from antioversmooth.config import DataConfig, Experiment
from antioversmooth.errors import CheckpointError
from antioversmooth.models.weights import load_weights
from antioversmooth.runs import Run
from antioversmooth.training import checkpoint, distributed
from antioversmooth.training.checkpoint import load_state
from antioversmooth.training.data import open_data
from antioversmooth.training.evaluator import Evaluation, Evaluator
from antioversmooth.training.train import make_loaders, new_model


def evaluate_checkpoint(
    target: Path, experiment: Experiment | None = None, *, data: DataConfig | None = None, ema: bool = False
) -> Evaluation:
    """What a checkpoint reaches on the validation split; on one process, or on all that started together.

    Args:
        target: A run directory (its newest whole checkpoint), a checkpoint in one, or a file of weights.
        experiment: The model and its evaluation; None: those of the run that `target` belongs to.
        data: Another data set than the experiment's, with the same classes.
        ema: Whether the moving average of the weights is evaluated rather than the weights.

    Raises:
        CheckpointError: There is no such checkpoint, or it is of another model.
        DataError: The data is missing, or is not what the spec says.
    """
    config = experiment or _run_of(target).experiment
    data = data or config.data
    with distributed.joined(config.runtime) as ranks:
        images = open_data(data).val
        loaders = make_loaders(config, seed=0, local_world_size=ranks.place.local_world_size)
        evaluator = Evaluator(config, images, loaders, ranks)
        model = new_model(config, seed=0)
        _load(model, target, ema=ema)
        return evaluator(model.to(ranks.device))
