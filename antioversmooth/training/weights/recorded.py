"""The run and the model that weights were recorded with.

Runs, their checkpoints and the files that `convert` writes record the model: its method, and all
options and forms that no name or shape of a tensor tells.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from antioversmooth.config import Experiment, Family, ModelConfig, as_recorded
from antioversmooth.errors import CheckpointError, ResultError
from antioversmooth.methods import METHODS, Method
from antioversmooth.methods.losses import LossMethod
from antioversmooth.methods.options import acting, with_defaults
from antioversmooth.models.state_files import read_metadata
from antioversmooth.models.weights import Purpose
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


def record_of(model: ModelConfig, *, folded: bool = False) -> dict[str, str]:
    """Metadata that record a model, with every option of its method.

    Args:
        folded: Whether the method was folded into the weights.
    """
    options = with_defaults(METHODS.get(model.method), model.method_options)
    recorded = {**to_json(model), "method_options": options}
    return {"model": json.dumps(recorded), "scaling_folded": json.dumps(folded)}


def require_same_function(
    target: Path, config: Experiment, purpose: Purpose = Purpose.evaluation
) -> tuple[str, ...]:
    """The values of the experiment that no record of the weights confirms.

    Args:
        purpose: To be trained further, weights of a plain model may get a method.

    Raises:
        CheckpointError: The weights' recorded model computes another function.
    """
    recorded, asked = _recorded_model(target), to_json(config.model)
    _require_known_method(target, recorded)
    theirs, ours = _acting_method(recorded), _acting_method(asked)
    if not recorded:
        return tuple(_overrides(asked, _own(ours, asked)))
    fields = ["num_heads"]
    if theirs is ours:
        fields += _own(ours, asked)
    elif theirs or _leaves_no_trace(ours, purpose):
        fields += ["method", "method_options"]
    _require_equal(target, recorded, asked, fields, config.name)
    return ()


def require_plain(target: Path, remedy: str) -> None:
    """Raises CheckpointError where weights are recorded to be of a model with a method."""
    recorded = _recorded_model(target)
    _require_known_method(target, recorded)
    if method := _acting_method(recorded):
        raise CheckpointError(
            f"{target} holds weights of a model with model.method={method.name}, and they are"
            f" loaded into a model of timm without it: {remedy}"
        )


def _require_equal(
    target: Path,
    recorded: Mapping[str, Any],
    asked: Mapping[str, Any],
    fields: list[str],
    name: str,
) -> None:
    known = [key for key in fields if key in recorded]
    depth = asked["depth"]
    different = [key for key in known if _acts(recorded, key, depth) != _acts(asked, key, depth)]
    if different:
        theirs, ours = ([*_overrides(model, different)] for model in (recorded, asked))
        # as a choice of the group, which brings no options of another method
        remedy = " ".join(re.sub(r"^model\.method=", "method=", text) for text in theirs)
        raise CheckpointError(
            f"{target} holds weights of a model with {', '.join(theirs)}, and {name} has"
            f" {', '.join(ours)}: the same weights would compute another function; set {remedy}"
        )


def _require_known_method(target: Path, recorded: Mapping[str, Any]) -> None:
    name = recorded.get("method", "none")
    if name not in ("none", *METHODS):
        raise CheckpointError(
            f"{target} holds weights of a model with model.method={name}, which this version does"
            " not have"
        )


def _acting_method(model: Mapping[str, Any]) -> type[Method] | None:
    """The method of a recorded model, if it changes what weights compute."""
    method = METHODS.get(model.get("method", "none"))
    return None if method and issubclass(method, LossMethod) else method


def _leaves_no_trace(method: type[Method] | None, purpose: Purpose) -> bool:
    """Whether weights of a plain model would be used with a method that they do not tell."""
    return method is not None and not method.parameters and purpose is not Purpose.training


def _own(method: type[Method] | None, model: Mapping[str, Any]) -> list[str]:
    """Fields of a method that change what weights compute, but no name or shape of a tensor."""
    if method is None:
        return []
    options = ["method_options"] if acting(method, with_defaults(method, {})) else []
    return [*options, *method.forms.get(Family(model["family"]), {})]


def _value(model: Mapping[str, Any], key: str) -> Any:
    """A field of a recorded model; of options those alone that change what weights compute."""
    if key != "method_options":
        return model[key]
    method = METHODS.get(model.get("method", "none"))
    return acting(method, with_defaults(method, model.get(key, {})))


def _acts(model: Mapping[str, Any], key: str, depth: int) -> Any:
    """The same, with options in the one spelling of those that compute the same."""
    value = _value(model, key)
    method = METHODS.get(model.get("method", "none"))
    if key == "method_options" and method:
        # options of another version, or of nobody, are compared as they are
        with suppress(ValueError, TypeError):
            return acting(method, method(**model.get(key, {})).canonical(depth))
    return value


def _overrides(model: Mapping[str, Any], keys: list[str]) -> Iterator[str]:
    """Fields of a recorded model as overrides of a command line, one for each option."""
    for key in keys:
        value = _value(model, key)
        parts = {f"{key}.{k}": v for k, v in value.items()} if key == "method_options" else None
        for name, part in ({key: value} if parts is None else parts).items():
            yield f"model.{name}={_text(part)}"


def _text(value: Any) -> str:
    is_word = isinstance(value, str) and re.fullmatch(r"[\w.-]+", value)
    return value if is_word else json.dumps(value, separators=(",", ":"))


def _recorded_model(target: Path) -> dict[str, Any]:
    """The model's config as recorded by the run or in the file's metadata; empty: unknown."""
    in_run = target.is_dir() or target.parent.name == "checkpoints"
    with suppress(CheckpointError, ResultError):
        return dict(to_json(run_of_target(target).experiment.model)) if in_run else _of_file(target)
    return _of_file(target)


def _of_file(target: Path) -> dict[str, Any]:
    metadata = read_metadata(target)
    with suppress(ValueError, TypeError):
        known = metadata.keys() >= {"model", "scaling_folded"}
        model = json.loads(metadata["model"]) if known else None
        if isinstance(model, dict):
            folded = json.loads(metadata["scaling_folded"]) is True
            model = as_recorded(ModelConfig, model)
            return {**model, "method": "none"} if folded else model
    return {}
