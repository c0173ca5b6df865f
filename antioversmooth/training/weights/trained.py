"""The weights of a run, of one of its checkpoints or of a file, in the model that they belong to.

A `target` is a run directory (its newest whole checkpoint, or the weights that it only evaluates),
a checkpoint in one, or a file of weights.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import nn

from antioversmooth.config import Experiment, ModelConfig
from antioversmooth.errors import CheckpointError, ResultError
from antioversmooth.methods import method_of
from antioversmooth.models.load_report import LoadReport
from antioversmooth.models.state_files import read_metadata
from antioversmooth.models.weights import Purpose, load_weights
from antioversmooth.runs import Run, to_json
from antioversmooth.training.run import checkpoint
from antioversmooth.training.weights.initial import load_initial_weights, new_model


def run_of_target(target: Path) -> Run:
    """The run that a run directory or a checkpoint belongs to.

    Raises:
        CheckpointError: It belongs to none.
    """
    folder = target if target.is_dir() else target.parent.parent
    if not (folder / "spec.yaml").is_file():
        missing = "" if target.exists() or ":" in str(target) else "is not there, and "
        raise CheckpointError(
            f"{target} {missing}belongs to no run directory; name its row: --spec ROW"
        )
    return Run.load(folder)


def trained_model(target: Path, config: Experiment, *, average: bool = False) -> nn.Module:
    """The experiment's model with the weights of `target`, on the CPU."""
    model: nn.Module = new_model(config, seed=0)
    load_trained_weights(model, target, config, average=average)
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
    _require_same_function(target, config)
    if is_evaluation_only(target):
        if average:
            message = f"{target} trains nothing, so there is no moving average of its weights"
            raise CheckpointError(message)
        return load_initial_weights(model, run_of_target(target))
    source = weights_file(target)
    return load_weights(model, source, purpose=purpose, average=average, key=key)


def is_evaluation_only(target: Path) -> bool:
    """Whether `target` is a run without training, whose weights are its initial weights."""
    return target.is_dir() and run_of_target(target).experiment.recipe.epochs == 0


def weights_file(target: Path) -> Path:
    """The file of weights; the newest whole checkpoint of a run directory.

    Raises:
        CheckpointError: The run directory has no whole checkpoint.
    """
    if not target.is_dir():
        return target
    newest = checkpoint.newest_whole(run_of_target(target).checkpoints(), lambda _: None)
    if newest is None:
        raise CheckpointError(f"{target} has no whole checkpoint yet")
    return newest.path


def _require_same_function(target: Path, config: Experiment) -> None:
    """Raises CheckpointError if the weights' recorded model computes another function."""
    recorded, asked = _recorded_model(target), to_json(config.model)
    fields = _functional_fields(config.model, scaled=recorded.get("scaling") == asked["scaling"])
    differing = [key for key in fields if key in recorded and recorded[key] != asked[key]]
    if differing:
        theirs, ours = (
            ", ".join(f"model.{key}={_as_override(model[key])}" for key in differing)
            for model in (recorded, asked)
        )
        raise CheckpointError(
            f"{target} holds weights of a model with {theirs}, and {config.name} has {ours}: the"
            f" same weights would compute another function; set {theirs}"
        )


def _functional_fields(model: ModelConfig, *, scaled: bool) -> list[str]:
    """Fields that change what the weights of a model compute, but no name or shape of a tensor.

    Args:
        scaled: Whether the weights include the model's scales.
    """
    method = method_of(model)
    return ["num_heads", *(method.forms.get(model.family, {}) if scaled and method else {})]


def _as_override(value: Any) -> str:
    return json.dumps(value).strip('"')


def _recorded_model(target: Path) -> dict[str, Any]:
    """The model's config as recorded in the file's metadata or by the run; empty: unknown."""
    metadata = read_metadata(target)
    with suppress(ValueError, TypeError):
        known = metadata.keys() >= {"model", "scaling_folded"}
        model = json.loads(metadata["model"]) if known else None
        if isinstance(model, dict):
            folded = json.loads(metadata["scaling_folded"]) is True
            return {**model, "scaling": "none"} if folded else model
    in_run = target.is_dir() or target.parent.name == "checkpoints"
    with suppress(CheckpointError, ResultError):
        return dict(to_json(run_of_target(target).experiment.model)) if in_run else {}
    return {}
