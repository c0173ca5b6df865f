"""The run and the model that weights were recorded with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from antioversmooth.config import Experiment, ModelConfig, as_recorded
from antioversmooth.errors import CheckpointError, ResultError
from antioversmooth.methods import METHODS, method_of
from antioversmooth.methods.losses import LossMethod
from antioversmooth.methods.options import differing
from antioversmooth.models.state_files import read_metadata
from antioversmooth.runs import Run, to_json


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


def require_same_function(target: Path, config: Experiment) -> None:
    """Raises CheckpointError if the weights' recorded model computes another function."""
    recorded, asked = map(_shortened, (_recorded_model(target), to_json(config.model)))
    fields = _functional_fields(config.model, scaled=recorded.get("method") == asked["method"])
    if _leaves_no_trace(recorded) or _leaves_no_trace(asked):
        fields += ["method", "method_options"]
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


def _leaves_no_trace(model: Mapping[str, Any]) -> bool:
    """Whether the model's method changes what weights compute, and adds no parameter of its own."""
    method = METHODS.get(model.get("method", "none"))
    return method is not None and not method.parameters and not issubclass(method, LossMethod)


def _shortened(model: Mapping[str, Any]) -> dict[str, Any]:
    """The model without options of its method that have their default."""
    method, options = METHODS.get(model.get("method", "none")), model.get("method_options", {})
    return {**model, "method_options": differing(method, options)} if model else {}


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
            model = as_recorded(ModelConfig, model)
            return {**model, "method": "none"} if folded else model
    in_run = target.is_dir() or target.parent.name == "checkpoints"
    with suppress(CheckpointError, ResultError):
        return dict(to_json(run_of_target(target).experiment.model)) if in_run else {}
    return {}
