"""Fitting weights of files, in every released layout, and of timm's tags to a model.

A key that a file lacks or has in excess is named and refused, unless it is the parameter of a
method, which starts at zero, or was declared.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn

from antioversmooth.errors import CheckpointError, and_more
from antioversmooth.methods import parameter_names
from antioversmooth.models.layouts import State, layout_of
from antioversmooth.models.state_files import read_state


@dataclass(frozen=True)
class LoadReport:
    """How each key of the source and of the model was handled."""

    source: str
    unchanged: int
    """Tensors of the source that were loaded as they were."""
    renamed: tuple[str, ...]
    """Tensors that were loaded under another name: `old -> new`."""
    missing: tuple[str, ...]
    """Scales and declared parameters that the source lacks: they keep their initial values."""
    resampled: tuple[str, ...]
    """Position embeddings and the like, resampled to the model's size."""
    reset: tuple[str, ...]
    """The classifier, if its number of classes differs: it keeps its initial values."""
    ignored: tuple[str, ...]
    """Buffers of the source that the model computes for itself."""

    def lines(self) -> list[str]:
        """Lines for people, without empty groups."""
        groups = {
            "renamed": self.renamed,
            "resampled to this model's size": self.resampled,
            "not loaded, because the number of classes differs": self.reset,
            "not loaded, because the model computes them": self.ignored,
            "not in the source, left at their initial values": self.missing,
        }
        listed = [f"{len(keys)} {what}: {', '.join(keys)}" for what, keys in groups.items() if keys]
        return [f"{self.source}: {self.unchanged} tensors loaded as they are", *listed]


def load_weights(
    model: nn.Module, source: Path, *, allow_missing: Sequence[str] = (), average: bool = False
) -> LoadReport:
    """Loads the weights of a file into the model.

    Args:
        source: `.safetensors`, or a file of torch.save: a state dict, or one under "model",
            "state_dict" or "model_ema"; in timm's or in the official layout of DeiT, CaiT or Swin,
            or a checkpoint of ours.
        allow_missing: Patterns (fnmatch) of parameters that the file need not hold, besides the
            scales.
        average: Load the moving average of the weights instead.

    Raises:
        CheckpointError: The file is missing, torn, or of another model; names the keys.
    """
    return _load(model, read_state(Path(source), average=average), str(source), allow_missing)


def load_timm(model: nn.Module, tag: str, *, allow_missing: Sequence[str] = ()) -> LoadReport:
    """Loads the weights that timm publishes under a tag into the model.

    Args:
        tag: As in timm.create_model: cait_s24_224.fb_dist_in1k.
        allow_missing: Patterns (fnmatch) of parameters that they need not hold, besides the scales.

    Raises:
        CheckpointError: No such tag, no way to fetch it, or it is of another model; names the keys.
    """
    return _load(model, published_model(tag).state_dict(), f"timm:{tag}", allow_missing)


def published_model(tag: str, **options: Any) -> nn.Module:
    """Creates timm's own model with the weights that timm publishes under a tag.

    Args:
        tag: As in timm.create_model: cait_s24_224.fb_dist_in1k.
        options: Of timm.create_model: in_chans, for example, to which timm adapts the first layer.

    Raises:
        CheckpointError: No such tag, or no way to fetch it.
    """
    source = f"timm:{tag}"
    if not timm.is_model_pretrained(tag):
        near = get_close_matches(tag, timm.list_pretrained(), n=3, cutoff=0.5)
        raise CheckpointError(
            f"{source}: timm has no weights of that name; similar names:"
            f" {', '.join(near) or 'none'}"
        )
    try:
        model: nn.Module = timm.create_model(tag, pretrained=True, **options)
    except (OSError, RuntimeError, ValueError, pickle.UnpicklingError) as err:
        raise CheckpointError(
            f"{source} could not be loaded: {_first_line(err)}; fetch the file where there is a"
            " network, and use file:<path>"
        ) from err
    return model


def _load(model: nn.Module, state: State, source: str, allow_missing: Sequence[str]) -> LoadReport:
    try:
        fitted = layout_of(model)(state, model)
    except (AttributeError, RuntimeError) as err:
        # timm looks up the module that each key belongs to
        raise CheckpointError(
            f"{source} is of another model than {type(model).__name__}: {err}"
        ) from err
    expected = model.state_dict()
    reset = tuple(_classifier_of_other_classes(model, fitted, expected))
    missing, unexpected = expected.keys() - fitted.keys(), fitted.keys() - expected.keys()
    undeclared = [key for key in missing if not _may_be_missing(key, allow_missing)]
    mismatched = [
        key
        for key in fitted.keys() & expected.keys() - set(reset)
        if fitted[key].shape != expected[key].shape
    ]
    problems = {
        "lacks": sorted(undeclared),
        "holds, and the model does not,": sorted(unexpected),
        "has other shapes of": [
            f"{k} {_shape(fitted[k])} for {_shape(expected[k])}" for k in sorted(mismatched)
        ],
    }
    _refuse(source, model, problems)
    model.load_state_dict(
        {**expected, **{key: value for key, value in fitted.items() if key not in reset}}
    )
    return _account(source, state, fitted, tuple(sorted(missing)), reset)


def _account(
    source: str, state: State, fitted: State, missing: tuple[str, ...], reset: tuple[str, ...]
) -> LoadReport:
    """The report. A tensor that was only renamed is the same object in both states."""
    new_names = {id(value): key for key, value in fitted.items()}
    gone = sorted(state.keys() - fitted.keys())
    moved = {key: new_names[id(state[key])] for key in gone if id(state[key]) in new_names}
    shared = state.keys() & fitted.keys() - set(reset)
    resampled = sorted(key for key in shared if state[key].shape != fitted[key].shape)
    return LoadReport(
        source,
        unchanged=len(shared) - len(resampled),
        renamed=tuple(f"{old} -> {new}" for old, new in moved.items() if new not in reset),
        missing=missing,
        resampled=tuple(resampled),
        reset=reset,
        ignored=tuple(key for key in gone if key not in moved),
    )


def _classifier_of_other_classes(
    model: Any, fitted: State, expected: Mapping[str, Tensor]
) -> list[str]:
    heads = model.get_classifier()
    heads = heads if isinstance(heads, tuple) else (heads,)
    parameters = {id(p) for head in heads for p in head.parameters()}
    names = [name for name, p in model.named_parameters() if id(p) in parameters and name in fitted]
    return sorted(name for name in names if len(fitted[name]) != len(expected[name]))


def _may_be_missing(key: str, allowed: Sequence[str]) -> bool:
    return key.rpartition(".")[2] in parameter_names() or any(
        fnmatch(key, pattern) for pattern in allowed
    )


def _refuse(source: str, model: nn.Module, problems: Mapping[str, Sequence[str]]) -> None:
    """Raises CheckpointError if there is a problem; names six keys of each kind, counts others."""
    found = [f"{what} {and_more(keys, 6)}" for what, keys in problems.items() if keys]
    if not found:
        return
    excess, added = problems["holds, and the model does not,"], parameter_names()
    scales = any(key.rpartition(".")[2] in added for key in excess)
    advice = (
        "its scales are those of another method: choose the model.scaling that it was trained with"
        if scales
        else "declare what may be missing in recipe.init_allow_missing, or choose the model that it"
        " is of"
    )
    raise CheckpointError(
        f"{source} does not fit this {type(model).__name__}: it {'; it '.join(found)}; {advice}"
    )


def _shape(tensor: Tensor) -> str:
    return str(list(tensor.shape))


def _first_line(err: Exception) -> str:
    return (str(err) or type(err).__name__).splitlines()[0]
