"""The weights of a run, of one of its checkpoints or of a file, in the model that they belong to.

A `target` is a run directory (its newest whole checkpoint, or the weights that it only evaluates),
a checkpoint in one, or a file of weights.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from torch import nn

from antioversmooth.config import Experiment
from antioversmooth.errors import CheckpointError
from antioversmooth.models.load_report import LoadReport
from antioversmooth.models.weights import Purpose, load_weights
from antioversmooth.runs.checkpoints import Checkpoint
from antioversmooth.training.run.checkpoint import Flaw, newest_valid, require_valid
from antioversmooth.training.weights.classes import recorded_names
from antioversmooth.training.weights.initial import (
    final_checkpoint,
    load_initial_weights,
    new_model,
)
from antioversmooth.training.weights.recorded import require_same_function, run_of_target


def require_present(target: Path) -> None:
    """Raises CheckpointError where there is nothing of the name of a target.

    Said before the data is opened, which takes longer and may be missing, too.
    """
    if not target.exists():
        raise CheckpointError(f"{target}: there is no such run directory or file of weights")


def trained_model(target: Path, config: Experiment) -> nn.Module:
    """The experiment's model with the weights of `target`, on the CPU."""
    model: nn.Module = new_model(config, seed=0)
    load_trained_weights(model, target, config)
    return model


def load_trained_weights(
    model: nn.Module,
    target: Path,
    config: Experiment,
    *,
    purpose: Purpose = Purpose.evaluation,
    average: bool = False,
    key: str = "",
) -> LoadReport:
    """Loads the weights of `target` into the experiment's model; reports on each key.

    Args:
        purpose: Decides what they need not hold.
        average: Whether to load the moving average that a checkpoint holds beside its weights.
        key: The key or the prefix of the weights, in a file that holds several.

    Raises:
        CheckpointError: There are no such weights, or they are of another model.
    """
    assumed = require_same_function(target, config, purpose)
    if is_evaluation_only(target):
        if average:
            message = f"{target} trains nothing, so there is no moving average of its weights"
            raise CheckpointError(message)
        return load_initial_weights(model, run_of_target(target), recorded_names(target))
    source = weights_file(target)
    report = load_weights(model, source, purpose=purpose, average=average, key=key)
    return replace(report, assumed=assumed)


def is_evaluation_only(target: Path) -> bool:
    """Whether `target` is a run without training, whose weights are its initial weights."""
    return target.is_dir() and run_of_target(target).experiment.recipe.epochs == 0


def weights_file(target: Path) -> Path:
    """The file of weights: of a run directory its final checkpoint, or the newest valid one.

    Raises:
        CheckpointError: The run directory has no valid checkpoint, or the file is not the
            checkpoint that its place and name say.
        ResultError: The result of the run is invalid.
    """
    if not target.is_dir():
        if _is_in_run(target):
            require_valid(run_of_target(target), Checkpoint.at(target))
        return target
    run = run_of_target(target)
    if run.result() is not None:
        return final_checkpoint(run)
    newest = newest_valid(run, _say_skipped)
    if newest is None:
        raise CheckpointError(f"{target} has no whole checkpoint yet")
    return newest.path


def _say_skipped(checkpoint: Checkpoint, flaw: Flaw) -> None:
    print(f"{checkpoint.path} {flaw.reason}; an older one is used", file=sys.stderr)


def _is_in_run(target: Path) -> bool:
    """Whether a file lies where the checkpoints of a run do."""
    in_run = target.parent.name == "checkpoints" and target.suffix == ".pt"
    return in_run and (target.parent.parent / "spec.yaml").is_file()
