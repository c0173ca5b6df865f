"""The weights that a run starts from, or learns from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from antioversmooth.config import Experiment
from antioversmooth.datasets.classes import describe_difference
from antioversmooth.errors import CheckpointError
from antioversmooth.models import build_model
from antioversmooth.models.load_report import LoadReport
from antioversmooth.models.weights import (
    Purpose,
    classifier_parameters,
    load_timm,
    load_weights,
)
from antioversmooth.runs import Run
from antioversmooth.runs.checkpoints import Checkpoint
from antioversmooth.training.randomness import seed_everything, seed_for
from antioversmooth.training.run.checkpoint import require_valid
from antioversmooth.training.weights.classes import (
    known_classes,
    match_classifier,
    published_classes,
)
from antioversmooth.training.weights.recorded import require_same_function


def new_model(config: Experiment, seed: int) -> nn.Module:
    """The experiment's model with random weights, a function of the seed."""
    seed_everything(seed_for(seed, "weights"))
    recipe = config.recipe
    return build_model(
        config.model,
        num_classes=config.data.num_classes,
        in_channels=config.data.in_channels,
        dropout=recipe.dropout,
        attention_dropout=recipe.attention_dropout,
        drop_path=recipe.drop_path,
    )


def load_initial_weights(
    model: nn.Module, run: Run, classes: Sequence[str] | None = None
) -> LoadReport:
    """Loads the weights of `recipe.init_from` into the model; reports what was done with each key.

    Args:
        classes: Names of the classes of the run's data, in order. Rows of a classifier of the same
            classes are put into this order; one of others is not loaded. None: not compared.

    Raises:
        CheckpointError: They are missing, or of another model, method or form; or the run trains
            nothing, and they have a classifier of other classes, or lack a parameter.
    """
    recipe = run.experiment.recipe
    purpose = Purpose.evaluation if recipe.epochs == 0 else Purpose.training
    options: dict[str, Any] = {"purpose": purpose, "allow_missing": recipe.init_allow_missing}
    kind, _, name = (recipe.init_from or "").partition(":")
    before = {key: p.detach().clone() for key, p in classifier_parameters(model).items()}
    if kind == "timm":
        report, known = load_timm(model, name, **options), published_classes(name)
    else:
        source = _initial_file(run)
        assumed = require_same_function(source, run.experiment, purpose)
        report = replace(load_weights(model, source, **options), assumed=assumed)
        known = known_classes(source, run.experiment.data.num_classes, classes or ())
    if classes is None or report.reset:
        return report
    matched = match_classifier(model, classes, known)
    if matched is not None:
        return replace(report, classes=matched.description)
    if purpose is Purpose.evaluation:
        # `match_classifier` found a difference
        assert known is not None
        raise CheckpointError(
            f"recipe.init_from: {describe_difference(classes, known)}; nothing trains a new"
            " classifier here: choose weights or data of the same classes, or evaluate them by"
            " `antioversmooth evaluate` with --class-map"
        )
    return _reset_classifier(model, before, report)


def _initial_file(run: Run) -> Path:
    """The file of weights that a run starts from."""
    kind, _, name = (run.experiment.recipe.init_from or "").partition(":")
    if kind == "file":
        run.require_file("init_from")
        return Path(name)
    # set by runs.plan and Run.load
    assert run.upstream is not None
    return final_checkpoint(run.upstream, f"{run.name} starts from it")


def _reset_classifier(
    model: nn.Module, before: Mapping[str, Tensor], report: LoadReport
) -> LoadReport:
    """Gives the classifier back its values before the load; returns the report of that."""
    with torch.no_grad():
        for key, parameter in classifier_parameters(model).items():
            parameter.copy_(before[key])
    renamed = tuple(key for key in report.renamed if key.rpartition(" -> ")[2] not in before)
    loaded_as_is = len(before) - (len(report.renamed) - len(renamed))
    return replace(
        report,
        unchanged=report.unchanged - loaded_as_is,
        renamed=renamed,
        reset=tuple(before),
        classes="others than the data's, so a new classifier is trained",
    )


def final_checkpoint(run: Run, relation: str = "") -> Path:
    """Path of the final checkpoint of a run.

    Args:
        relation: Who needs it, for messages: "deit_s12 seed 0 starts from it".

    Raises:
        CheckpointError: The run is not done, or the file is missing or not its final checkpoint.
        ResultError: The result of the run is invalid.
    """
    needed = f"; {relation}" if relation else ""
    result = run.result()
    if result is None:
        raise CheckpointError(f"{run.name} is not done{needed}: {run.dir}")
    final = result["checkpoint"]
    if final is None:
        raise CheckpointError(f"{run.name} has no checkpoint{needed}: {run.dir}")
    checkpoint = Checkpoint.at(run.checkpoints_dir / str(final.get("file")))
    if checkpoint.checksum != final.get("sha256") and checkpoint.path.is_file():
        raise CheckpointError(
            f"{checkpoint.path} is not what result.json names{needed}; put that file back with its"
            f" .sha256, or move {run.dir} away and launch {run.name} again"
        )
    require_valid(run, checkpoint, relation)
    return checkpoint.path
