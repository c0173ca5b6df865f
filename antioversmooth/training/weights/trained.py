"""Evaluation on its own: of a run, of one of its checkpoints, or of a file of weights."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import nn

from antioversmooth.config import DataConfig, Experiment, ModelConfig
from antioversmooth.errors import CheckpointError, ResultError
from antioversmooth.methods import method_of
from antioversmooth.models.weights import LoadReport, load_weights, read_metadata
from antioversmooth.runs import Run, to_json
from antioversmooth.training.data.images import open_data
from antioversmooth.training.evaluator import Evaluation, Evaluator
from antioversmooth.training.run import checkpoint, distributed
from antioversmooth.training.train import make_loaders
from antioversmooth.training.weights.initial import load_initial_weights, new_model


def evaluate_checkpoint(
    target: Path,
    experiment: Experiment | None = None,
    *,
    data: DataConfig | None = None,
    average: bool = False,
) -> Evaluation:
    """What weights reach on the validation split; on one process, or on all that were started
    together.

    Args:
        target: A run directory (its newest whole checkpoint, or the weights that it only
            evaluated), a checkpoint in one, or a file of weights.
        experiment: The model and how it is evaluated; None: those of the run that `target` belongs
            to.
        data: Another data set than the experiment's, with the same classes.
        average: Whether the moving average is evaluated, of a checkpoint that holds one.

    Raises:
        CheckpointError: There are no such weights, or they are of another model.
        DataError: The data is missing, or is not what the spec says.
    """
    config = experiment or run_of(target).experiment
    with distributed.joined(config.runtime) as ranks:
        images = open_data(data or config.data).val
        loaders = make_loaders(config, seed=0, cpus=ranks.place.cpus)
        model = trained_model(target, config, average=average)
        return Evaluator(config, images, loaders, ranks)(model.to(ranks.device))


def run_of(target: Path) -> Run:
    """The run whose directory or checkpoint this is."""
    folder = target if target.is_dir() else target.parent.parent
    if not (folder / "spec.yaml").is_file():
        missing = "" if target.exists() or ":" in str(target) else "is not there, and "
        raise CheckpointError(
            f"{target} {missing}belongs to no run directory; name the row that it is of: --spec ROW"
        )
    return Run.load(folder)


def trained_model(target: Path, config: Experiment, *, average: bool = False) -> nn.Module:
    """The experiment's model with the weights of `target`, on the CPU; arguments as of
    `evaluate_checkpoint`."""
    model: nn.Module = new_model(config, seed=0)
    load_trained(model, target, config, average=average)
    return model


def load_trained(
    model: nn.Module, target: Path, config: Experiment, *, average: bool = False
) -> LoadReport:
    """Puts the weights of a run, a checkpoint or a file into the experiment's model; says what
    became of each key.

    Args:
        average: The moving average that stands beside them in a checkpoint.

    Raises:
        CheckpointError: There are no such weights, or they are of another model.
    """
    _require_same_form(target, config)
    if only_evaluates(target, config):
        if average:
            raise CheckpointError(
                f"{target} trained nothing, so there is no moving average of its weights"
            )
        return load_initial_weights(model, run_of(target))
    return load_weights(model, weights_of(target), average=average)


def _require_same_form(target: Path, config: Experiment) -> None:
    """Raises CheckpointError where weights say of themselves that they are of a model that computes
    otherwise."""
    said, ours = _said(target), to_json(config.model)
    form = _form(config.model, scaled=said.get("scaling") == ours["scaling"])
    differing = [key for key in form if key in said and said[key] != ours[key]]
    if differing:
        theirs, asked = (
            ", ".join(f"model.{key}={_spelt(model[key])}" for key in differing)
            for model in (said, ours)
        )
        raise CheckpointError(
            f"{target} holds weights of a model with {theirs}, and {config.name} is asked for with"
            f" {asked}: the same numbers would be another function; give {theirs}"
        )


def _form(model: ModelConfig, *, scaled: bool) -> list[str]:
    """Fields that decide what the weights of a model compute, and that no shape or name of a tensor
    tells.

    Args:
        scaled: Whether the weights have its scales.
    """
    method = method_of(model)
    return ["num_heads", *(method.forms.get(model.family, {}) if scaled and method else {})]


def _spelt(value: Any) -> str:
    """A value as an override spells it."""
    return json.dumps(value).strip('"')


def _said(target: Path) -> dict[str, Any]:
    """The model that weights are of, as they say themselves or the run says that they belong to;
    empty: unknown."""
    metadata = read_metadata(target)
    with suppress(ValueError, TypeError):
        model = (
            json.loads(metadata["model"])
            if metadata.keys() >= {"model", "scaling_folded"}
            else None
        )
        if isinstance(model, dict):
            return (
                {**model, "scaling": "none"}
                if json.loads(metadata["scaling_folded"]) is True
                else model
            )
    in_run = target.is_dir() or target.parent.name == "checkpoints"
    with suppress(CheckpointError, ResultError):
        return dict(to_json(run_of(target).experiment.model)) if in_run else {}
    return {}


def only_evaluates(target: Path, config: Experiment) -> bool:
    """Whether `target` is a run that trains nothing: its weights are those that it starts from."""
    return target.is_dir() and config.recipe.epochs == 0


def weights_of(target: Path) -> Path:
    """The file of weights: of a run directory its newest whole checkpoint."""
    return _newest(target) if target.is_dir() else target


def _newest(directory: Path) -> Path:
    found = checkpoint.newest_whole(checkpoint.lineage(run_of(directory)), lambda _: None)
    if found is None:
        raise CheckpointError(f"{directory} has no whole checkpoint yet")
    return found.path
