"""Fitting weights of files, in every released layout, and of timm's tags to a model.

A key that a file lacks or has in excess is named and refused, unless the purpose of the weights
allows it.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from enum import Enum
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from antioversmooth import weight_files
from antioversmooth.errors import CheckpointError, and_more
from antioversmooth.methods import parameter_names
from antioversmooth.models.layouts import State, layout_of, prefixes
from antioversmooth.models.load_report import LoadReport
from antioversmooth.models.placement import methods_in
from antioversmooth.models.state_files import StoredState, choose_part, read_state, several_states


class Purpose(Enum):
    """Use of the loaded weights, which decides what their file need not hold."""

    training = "training"
    """They are trained further: a classifier of other classes starts anew; the scales, and what is
    declared, may be missing."""
    evaluation = "evaluation"
    """They are used as they are: every parameter comes from the file."""
    conversion = "conversion"
    """They are written again: the scales may be missing, since scales of zero change nothing."""


def load_weights(
    model: nn.Module,
    source: Path,
    *,
    purpose: Purpose = Purpose.evaluation,
    allow_missing: Sequence[str] = (),
    average: bool = False,
    key: str = "",
) -> LoadReport:
    """Loads the weights of a file into the model.

    Args:
        source: `.safetensors`, a file of torch.save, or the index of their shards: a state dict, or
            one under "model", "state_dict" or "model_ema"; in timm's or in the official layout of
            DeiT, CaiT or Swin, or a checkpoint of ours.
        purpose: Decides what the file need not hold.
        allow_missing: Patterns (fnmatch) of parameters that the file need not hold to be trained
            further.
        average: Load the moving average of the weights instead.
        key: The key or the prefix of the weights, in a file that holds several.

    Raises:
        CheckpointError: The file is missing, torn, or of another model, or its numbers are not
            finite; names the keys.
    """
    stored = read_state(Path(source), average=average, key=key)
    return _load(model, stored, str(source), purpose, allow_missing)


def load_timm(
    model: nn.Module,
    tag: str,
    *,
    purpose: Purpose = Purpose.evaluation,
    allow_missing: Sequence[str] = (),
) -> LoadReport:
    """Loads the weights that timm publishes under a tag into the model.

    Args:
        tag: As in timm.create_model: cait_s24_224.fb_dist_in1k.
        purpose: Decides what they need not hold.
        allow_missing: Patterns (fnmatch) of parameters that they need not hold to be trained
            further.

    Raises:
        CheckpointError: No such tag, no way to fetch it, or it is of another model; names the keys.
    """
    stored = StoredState(published_model(tag).state_dict())
    return _load(model, stored, f"timm:{tag}", purpose, allow_missing)


def published_model(tag: str, **options: Any) -> nn.Module:
    """Creates timm's own model with the weights that timm publishes under a tag.

    Args:
        tag: As in timm.create_model: cait_s24_224.fb_dist_in1k.
        options: Of timm.create_model: in_chans, for example, to which timm adapts the first layer.

    Raises:
        CheckpointError: No such tag, no way to fetch it, or its numbers are not finite.
    """
    source = f"timm:{tag}"
    weight_files.require_published(tag)
    try:
        model: nn.Module = timm.create_model(tag, pretrained=True, **options)
    except (OSError, RuntimeError, ValueError, pickle.UnpicklingError) as err:
        raise CheckpointError(
            f"{source} could not be loaded: {_first_line(err)}; without a network, copy the folder"
            " $HF_HOME (default: ~/.cache/huggingface) of a machine where timm has loaded it, and"
            " set HF_HUB_OFFLINE=1"
        ) from err
    _require_finite(source, model.state_dict())
    return model


_LACKS = "lacks"
_EXCESS = "holds, and the model does not,"


def _load(
    model: nn.Module,
    stored: StoredState,
    source: str,
    purpose: Purpose,
    allow_missing: Sequence[str],
) -> LoadReport:
    expected = model.state_dict()
    prefix = _prefix(source, stored.tensors, expected)
    state = {key.removeprefix(prefix): value for key, value in stored.tensors.items()}
    part = ".".join(filter(None, (stored.key, prefix.removesuffix("."))))
    choice = choose_part(source, part) if prefix else ""
    if double := [key for key in state if prefix and {key, prefix + key} <= stored.tensors.keys()]:
        raise CheckpointError(
            f"{source} holds {and_more(double, 6)} with and without the prefix {prefix!r}; {choice}"
        )
    _require_same_tokens(source, state, expected)
    try:
        fitted = layout_of(model)(state, model)
    except (AttributeError, RuntimeError) as err:
        # timm looks up the module that each key belongs to
        raise CheckpointError(
            f"{source} is of another model than {type(model).__name__}: {err}"
        ) from err
    reset = _classifier_of_other_classes(model, fitted, expected)
    missing = sorted(expected.keys() - fitted.keys())
    shared = sorted(fitted.keys() & expected.keys() - set(reset))
    theirs = fitted if purpose is Purpose.training else {**fitted, **_unresampled(state)}
    found = _mismatches(theirs, expected, shared)
    needed = [key for key in missing if not _may_be_missing(key, purpose, allow_missing)]
    if needed:
        found = {_LACKS: needed, **found}
    if found:
        raise _misfit(source, model, found, _advice(found, purpose) or choice)
    if reset and purpose is not Purpose.training:
        sizes = len(fitted[reset[0]]), len(expected[reset[0]])
        raise weight_files.other_classes(source, *sizes)
    values = {key: fitted[key].to(expected[key].dtype) for key in shared}
    _require_finite(source, values)
    model.load_state_dict({**expected, **values})
    return LoadReport(
        source,
        key=stored.key,
        beside=stored.beside,
        prefix=prefix,
        missing=tuple(missing),
        reset=tuple(reset),
        no_tensors=stored.no_tensors,
        training=stored.training if purpose is Purpose.training else (),
        **_account(state, fitted, reset),
    )


def _mismatches(theirs: State, expected: State, shared: Sequence[str]) -> dict[str, list[str]]:
    """Weights that the model has no place for, by what is wrong with them.

    Args:
        shared: Keys of weights that are loaded.
    """
    problems = {
        _EXCESS: sorted(theirs.keys() - expected.keys()),
        "has other shapes of": [
            f"{key} {_shape(theirs[key])} for {_shape(expected[key])}"
            for key in shared
            if theirs[key].shape != expected[key].shape
        ],
        "has other numbers in": [
            f"{key} ({_kind(theirs[key])} for {_kind(expected[key])})"
            for key in shared
            if not _is_alike(theirs[key], expected[key])
        ],
    }
    return {what: keys for what, keys in problems.items() if keys}


def _unresampled(state: State) -> State:
    """Weights that may be resampled only to be trained further: patches of another size are another
    model, other than images of another size."""
    key = "patch_embed.proj.weight"
    return {key: state[key]} if key in state and state[key].ndim == 4 else {}


def _account(state: State, fitted: State, reset: Sequence[str]) -> dict[str, Any]:
    """Fields of a report. A tensor that was only renamed is the same object in both states."""
    new_names = {id(value): key for key, value in fitted.items()}
    gone = sorted(state.keys() - fitted.keys())
    moved = {key: new_names[id(state[key])] for key in gone if id(state[key]) in new_names}
    shared = state.keys() & fitted.keys() - set(reset)
    resampled = sorted(key for key in shared if state[key].shape != fitted[key].shape)
    return {
        "unchanged": len(shared) - len(resampled),
        "renamed": tuple(f"{old} -> {new}" for old, new in moved.items() if new not in reset),
        "resampled": tuple(resampled),
        "ignored": tuple(key for key in gone if key not in moved),
    }


def _prefix(source: str, state: State, expected: State) -> str:
    """The common beginning of all keys before the model's own names.

    Raises:
        CheckpointError: There are several, as of a student and a teacher.
    """
    found = prefixes(state.keys(), expected.keys())
    if len(found) > 1:
        raise several_states(source, [prefix.removesuffix(".") for prefix in found])
    return found[0] if found else ""


def _require_same_tokens(source: str, state: State, expected: State) -> None:
    """Raises CheckpointError where only one of both is of a distilled model."""
    if ("dist_token" in state) is ("dist_token" in expected):
        return
    theirs, ours, value = ("a", "none", "true") if "dist_token" in state else ("no", "one", "false")
    raise CheckpointError(
        f"{source} has {theirs} distillation token (dist_token), and this model has {ours}; set"
        f" model.distillation_token={value}, or for a teacher recipe.teacher_model to timm's name"
        " of that model"
    )


def _kind(tensor: Tensor) -> str:
    """dtype and layout, for messages."""
    layout = "" if tensor.layout is torch.strided else f", {tensor.layout}"
    return f"{tensor.dtype}{layout}{', meta' if tensor.is_meta else ''}".replace("torch.", "")


def _is_alike(tensor: Tensor, expected: Tensor) -> bool:
    """Whether a tensor holds numbers of the same kind as the model's: real ones, in memory."""
    same_kind = tensor.is_floating_point() == expected.is_floating_point()
    return same_kind and tensor.layout is torch.strided and not tensor.is_meta


def _require_finite(source: str, values: State) -> None:
    """Raises CheckpointError where a value of the weights is infinite or not a number."""
    counts = {key: int((~value.isfinite()).sum()) for key, value in values.items()}
    found = [f"{key} ({count} of {values[key].numel()})" for key, count in counts.items() if count]
    if found:
        raise CheckpointError(
            f"{source} holds values that are not finite numbers in {and_more(found, 6)}: a training"
            " that diverged, or a damaged file; use another checkpoint of it"
        )


def classifier_parameters(model: Any) -> dict[str, nn.Parameter]:
    """Parameters of a model's classifiers by name; the first dimension of each is the classes."""
    heads = model.get_classifier()
    heads = heads if isinstance(heads, tuple) else (heads,)
    parameters = {id(p) for head in heads for p in head.parameters()}
    return {name: p for name, p in model.named_parameters() if id(p) in parameters}


def _classifier_of_other_classes(model: nn.Module, fitted: State, expected: State) -> list[str]:
    return sorted(
        name
        for name in classifier_parameters(model).keys() & fitted.keys()
        if fitted[name].ndim == expected[name].ndim and len(fitted[name]) != len(expected[name])
    )


def _may_be_missing(key: str, purpose: Purpose, allowed: Sequence[str]) -> bool:
    if _is_scale(key):
        return purpose is not Purpose.evaluation
    return purpose is Purpose.training and any(fnmatch(key, pattern) for pattern in allowed)


def _is_scale(key: str) -> bool:
    return key.rpartition(".")[2] in parameter_names()


def _misfit(
    source: str, model: nn.Module, problems: Mapping[str, Sequence[str]], advice: str
) -> CheckpointError:
    """The error about keys that do not fit; names six of each kind, counts others."""
    listed = "; it ".join(f"{what} {and_more(keys, 6)}" for what, keys in problems.items())
    of_methods = filter(None, (method.advice_on_weights for method in methods_in(model)))
    advice = "; ".join([advice or "choose the model that it is of", *of_methods])
    return CheckpointError(
        f"{source} does not fit this {type(model).__name__}: it {listed}; {advice}"
    )


def _advice(problems: Mapping[str, Sequence[str]], purpose: Purpose) -> str:
    """Advice on keys that the file lacks or has in excess; empty where it may be another model."""
    lacks, excess = (problems.get(what, ()) for what in (_LACKS, _EXCESS))
    if any(map(_is_scale, excess)):
        return (
            "its scales are those of another method: choose the model.method that it was trained"
            " with"
        )
    if problems.keys() == {_LACKS} and all(map(_is_scale, lacks)):
        return (
            "these weights have no scales: evaluate them with model.method=none, or train the"
            " scales first"
        )
    if problems.keys() == {_LACKS} and purpose is Purpose.training:
        return (
            "declare what may be missing in recipe.init_allow_missing, or choose the model that it"
            " is of"
        )
    return ""


def _shape(tensor: Tensor) -> str:
    return str(list(tensor.shape))


def _first_line(err: Exception) -> str:
    return (str(err) or type(err).__name__).splitlines()[0]
