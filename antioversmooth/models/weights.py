"""Weights from and for elsewhere: files in every layout that these models were released in, timm's
tags, checkpoints.

A key that a file lacks, or holds too many, is named, and refused unless it is a scale, which starts
at zero, or was declared.
"""

from __future__ import annotations

import argparse
import io
import pickle
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import timm
import torch
from safetensors import SafetensorError
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models import (
    cait,
    clean_state_dict,
    swin_transformer,
    swin_transformer_v2,
    vision_transformer,
)
from torch import Tensor, nn

from antioversmooth import files
from antioversmooth.errors import CheckpointError, and_more
from antioversmooth.methods import parameter_names

State = dict[str, Tensor]

_NESTED = ("model", "state_dict", "model_ema")
"""Keys that a checkpoint keeps its weights under, the first that is there."""

_AVERAGES = ("ema", "model_ema", "state_dict_ema")
"""The same for their moving average: ours, DeiT's, timm's."""

_SWIN_BUFFERS = ("attn_mask", "relative_position_index")


@dataclass(frozen=True)
class LoadReport:
    """What became of every key, of the source and of the model."""

    source: str
    taken: int
    """Tensors of the source that went into the model as they were."""
    renamed: tuple[str, ...]
    """Those that did so under another name: `old -> new`."""
    missing: tuple[str, ...]
    """Scales and declared parameters that the source lacks: they start as the model was built."""
    adapted: tuple[str, ...]
    """Position embeddings and the like, resampled to the model's size."""
    reset: tuple[str, ...]
    """The classifier, where its number of classes differs: it starts as the model was built."""
    dropped: tuple[str, ...]
    """Buffers of the source that the model computes for itself."""

    def lines(self) -> list[str]:
        """The same for people, without what did not occur."""
        groups = {
            "renamed": self.renamed,
            "resampled to this model's size": self.adapted,
            "not taken, since the number of classes differs": self.reset,
            "not taken, since the model computes them": self.dropped,
            "of the model not in the source, so as built": self.missing,
        }
        listed = [f"{len(keys)} {what}: {', '.join(keys)}" for what, keys in groups.items() if keys]
        return [f"{self.source}: {self.taken} tensors taken as they are", *listed]


def load_weights(
    model: nn.Module, source: Path, *, allow_missing: Sequence[str] = (), average: bool = False
) -> LoadReport:
    """Puts the weights of a file into the model.

    Args:
        source: `.safetensors`, or what torch.save wrote: a state dict, or one under "model",
            "state_dict" or "model_ema"; in timm's or in the official layout of DeiT, CaiT or Swin,
            or a checkpoint of ours.
        allow_missing: Patterns (fnmatch) of parameters that the file need not hold, besides the
            scales.
        average: Take the moving average of the weights that the file holds beside them.

    Raises:
        CheckpointError: The file is missing or torn, or of another model; names the keys.
    """
    return _load(model, read_state(Path(source), average=average), str(source), allow_missing)


def load_timm(
    model: nn.Module,
    tag: str,
    *,
    allow_missing: Sequence[str] = (),
    overlay: Mapping[str, Any] | None = None,
) -> LoadReport:
    """Puts the weights that timm publishes under a tag into the model.

    Args:
        tag: As in timm.create_model: cait_s24_224.fb_dist_in1k.
        allow_missing: Patterns (fnmatch) of parameters that they need not hold, besides the scales.
        overlay: Entries over timm's own for this tag: {"file": path} reads a file that was
            downloaded elsewhere.

    Raises:
        CheckpointError: No such tag, no way to fetch it, or it is of another model; names the keys.
    """
    return _load(model, published(tag, overlay=overlay).state_dict(), f"timm:{tag}", allow_missing)


def published(tag: str, *, overlay: Mapping[str, Any] | None = None, **options: Any) -> nn.Module:
    """timm's own model with the weights that timm publishes under a tag.

    Args:
        tag: As in timm.create_model: cait_s24_224.fb_dist_in1k.
        overlay: As of `load_timm`.
        options: Of timm.create_model: in_chans, for example, to which timm adapts the first layer.

    Raises:
        CheckpointError: No such tag, or no way to fetch it.
    """
    source = f"timm:{tag}"
    if overlay is None and not timm.is_model_pretrained(tag):
        near = get_close_matches(tag, timm.list_pretrained(), n=3, cutoff=0.5)
        raise CheckpointError(
            f"{source}: timm has no weights of that name; near it are {', '.join(near) or 'none'}"
        )
    try:
        model: nn.Module = timm.create_model(
            tag, pretrained=True, pretrained_cfg_overlay=dict(overlay or {}), **options
        )
    except (OSError, RuntimeError, ValueError, pickle.UnpicklingError) as err:
        raise CheckpointError(
            f"{source} could not be loaded: {_first_line(err)}; fetch the file where there is a"
            " network, and use file:<path>"
        ) from err
    return model


def save_weights(
    model: nn.Module, target: Path, *, metadata: Mapping[str, str] | None = None
) -> None:
    """Writes the weights of a model, whole or not at all.

    Args:
        target: `.safetensors` in timm's layout, or `.pth` in the official one, which the released
            code reads.
        metadata: Words about the weights, kept in a `.safetensors` file's header.

    Raises:
        CheckpointError: Another ending.
    """
    if target.suffix == ".safetensors":
        state = {
            key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()
        }
        files.write_atomic(
            target, safetensors.torch.save(state, {"format": "pt", **(metadata or {})})
        )
    elif target.suffix == ".pth":
        buffer = io.BytesIO()
        torch.save({"model": official_state(model)}, buffer)
        files.write_atomic(target, buffer.getvalue())
    else:
        raise CheckpointError(f"{target}: weights are written as .safetensors or .pth")


def official_state(model: nn.Module) -> State:
    """The weights under the keys of the official code of DeiT, CaiT and Swin, on the CPU.

    Only Swin's differ from timm's: its patch merging ends a stage instead of starting the next one,
    its classifier is `head`, and the buffers that windows need are part of the state.
    """
    state = {key: value.detach().cpu() for key, value in model.state_dict().items()}
    if not isinstance(model, swin_transformer.SwinTransformer):
        return state
    buffers = {key: b.cpu() for key, b in model.named_buffers() if key.endswith(_SWIN_BUFFERS)}
    return {**{_official_swin_key(key): value for key, value in state.items()}, **buffers}


def _official_swin_key(key: str) -> str:
    key = re.sub(r"^layers\.(\d+)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", key)
    return key.replace("head.fc.", "head.")


def read_state(source: Path, *, average: bool = False) -> State:
    """The tensors of a file by name, without the prefixes of wrappers; nothing in it is executed.

    Args:
        average: Those of the moving average that it holds.

    Raises:
        CheckpointError: The file is missing, torn, or holds no state dict.
    """
    try:
        content = (
            safetensors.torch.load_file(source)
            if source.suffix == ".safetensors"
            else _torch_load(source)
        )
    except FileNotFoundError as err:
        raise CheckpointError(f"{source}: there is no such file") from err
    except Exception as err:
        # bytes that are no weights lead torch's reader to errors of any kind
        raise CheckpointError(
            f"{source} is torn, or holds more than weights: {_unreadable(source, err)}"
        ) from err
    found: dict[str, Any] = content if isinstance(content, dict) else {}
    if average:
        found = {key: found[key] for key in _AVERAGES if found.get(key) is not None}
        if not found:
            raise CheckpointError(
                f"{source} holds no moving average, under none of {', '.join(_AVERAGES)}"
            )
    state = next((found[key] for key in (*_NESTED, *_AVERAGES) if key in found), found)
    if (
        not isinstance(state, dict)
        or not all(isinstance(value, Tensor) for value in state.values())
        or not state
    ):
        raise CheckpointError(
            f"{source} holds no state dict, neither as it is nor under {', '.join(_NESTED)}"
        )
    return dict(clean_state_dict(state))


def read_metadata(source: Path) -> dict[str, str]:
    """What a `.safetensors` file says of its weights in words; nothing where it says nothing, or
    cannot be read."""
    if source.suffix != ".safetensors":
        return {}
    try:
        with safetensors.safe_open(source, "pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError):
        return {}


def _unreadable(source: Path, err: Exception) -> str:
    """Why a file of weights cannot be read. Not in torch's words, which advise to execute what is
    in it."""
    if isinstance(err, OSError) and err.strerror:
        return err.strerror
    if found := re.search(r"GLOBAL (\S+)", str(err)):
        return (
            f"it asks for {found[1]}, and nothing but tensors, numbers and words is taken from a"
            " file"
        )
    kind = "safetensors file" if source.suffix == ".safetensors" else "file that torch.save wrote"
    return f"it is no {kind}, or is cut off ({source.stat().st_size:,} bytes)"


def _torch_load(source: Path) -> Any:
    # the released training code saves its parsed arguments beside the weights
    with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
        # torch warns about pickles that are no weights
        warnings.simplefilter("ignore")
        return torch.load(source, map_location="cpu", weights_only=True)


def _load(model: nn.Module, state: State, source: str, allow_missing: Sequence[str]) -> LoadReport:
    try:
        fitted = _layout(model)(state, model)
    except (AttributeError, RuntimeError) as err:
        # timm looks for the module that each key belongs to
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
    """Follows each tensor of the source through its new layout, which keeps the object where it
    only renames."""
    new_names = {id(value): key for key, value in fitted.items()}
    gone = sorted(state.keys() - fitted.keys())
    moved = {key: new_names[id(state[key])] for key in gone if id(state[key]) in new_names}
    kept = state.keys() & fitted.keys() - set(reset)
    adapted = sorted(key for key in kept if state[key].shape != fitted[key].shape)
    return LoadReport(
        source,
        taken=len(kept) - len(adapted),
        renamed=tuple(f"{old} -> {new}" for old, new in moved.items() if new not in reset),
        missing=missing,
        adapted=tuple(adapted),
        reset=reset,
        dropped=tuple(key for key in gone if key not in moved),
    )


def _layout(model: nn.Module) -> Callable[[State, nn.Module], State]:
    """What turns official keys and sizes into the model's own."""
    layouts: dict[type[nn.Module], Callable[..., State]] = {
        cait.Cait: _resample_cait,
        swin_transformer.SwinTransformer: swin_transformer.checkpoint_filter_fn,
        swin_transformer_v2.SwinTransformerV2: swin_transformer_v2.checkpoint_filter_fn,
        vision_transformer.VisionTransformer: partial(
            vision_transformer.checkpoint_filter_fn, adapt_layer_scale=True
        ),
    }
    return next(
        (layout for kind, layout in layouts.items() if isinstance(model, kind)),
        lambda state, _: dict(state),
    )


def _resample_cait(state: State, model: Any) -> State:
    """timm resamples the position embedding of a ViT and not that of CaiT, which has no entry for
    the class token."""
    if "pos_embed" not in state or state["pos_embed"].shape == model.pos_embed.shape:
        return dict(state)
    grid = list(model.patch_embed.grid_size)
    return {
        **state,
        "pos_embed": resample_abs_pos_embed(state["pos_embed"], new_size=grid, num_prefix_tokens=0),
    }


def _classifier_of_other_classes(
    model: Any, fitted: State, expected: Mapping[str, Tensor]
) -> list[str]:
    heads = model.get_classifier()
    parameters = {
        id(p)
        for head in (heads if isinstance(heads, tuple) else (heads,))
        for p in head.parameters()
    }
    names = [name for name, p in model.named_parameters() if id(p) in parameters and name in fitted]
    return sorted(name for name in names if len(fitted[name]) != len(expected[name]))


def _may_be_missing(key: str, allowed: Sequence[str]) -> bool:
    return key.rpartition(".")[2] in parameter_names() or any(
        fnmatch(key, pattern) for pattern in allowed
    )


def _refuse(source: str, model: nn.Module, problems: Mapping[str, Sequence[str]]) -> None:
    """Raises CheckpointError if there is a problem; six keys of each kind are named, the rest
    counted."""
    found = [f"{what} {and_more(keys, 6)}" for what, keys in problems.items() if keys]
    if not found:
        return
    added = parameter_names()
    scales = any(
        key.rpartition(".")[2] in added for key in problems["holds, and the model does not,"]
    )
    way_out = (
        "its scales are those of another method: choose the model.scaling that it was trained with"
        if scales
        else (
            "declare what may be missing in recipe.init_allow_missing, or choose the model that it"
            " is of"
        )
    )
    raise CheckpointError(
        f"{source} does not fit this {type(model).__name__}: it {'; it '.join(found)}; {way_out}"
    )


def _shape(tensor: Tensor) -> str:
    return str(list(tensor.shape))


def _first_line(err: Exception) -> str:
    return (str(err) or type(err).__name__).splitlines()[0]
