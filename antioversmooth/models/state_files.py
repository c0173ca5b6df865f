"""Files of weights: read without executing anything in them, written whole or not at all."""

from __future__ import annotations

import argparse
import io
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from timm.models import clean_state_dict
from torch import Tensor, nn

from antioversmooth import files
from antioversmooth.errors import CheckpointError
from antioversmooth.models.layouts import State, official_state

_NESTED = ("model", "state_dict", "model_ema")
"""Keys under which a checkpoint holds its weights; the first that is there is used."""

_AVERAGES = ("ema", "model_ema", "state_dict_ema")
"""The same for their moving average: ours, DeiT's, timm's."""


def read_state(source: Path, *, average: bool = False) -> State:
    """Tensors of a file by name, without the prefixes of wrappers; nothing in it is executed.

    Args:
        average: Read the moving average in the file instead.

    Raises:
        CheckpointError: The file is missing, torn, or holds no state dict.
    """
    load = safetensors.torch.load_file if source.suffix == ".safetensors" else _torch_load
    try:
        content: Any = load(source)
    except FileNotFoundError as err:
        raise CheckpointError(f"{source}: there is no such file") from err
    except Exception as err:
        # torch's reader raises any kind of error for bytes that are no weights
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
    """Metadata of a `.safetensors` file; empty where it has none or cannot be read."""
    if source.suffix != ".safetensors":
        return {}
    try:
        with safetensors.safe_open(source, "pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError):
        return {}


def _unreadable(source: Path, err: Exception) -> str:
    """Reason why a file of weights cannot be read.

    Torch's own message is left out, since it advises to execute the content.
    """
    if isinstance(err, OSError) and err.strerror:
        return err.strerror
    if found := re.search(r"GLOBAL (\S+)", str(err)):
        return (
            f"it asks for {found[1]}, and nothing but tensors, numbers and strings is read from a"
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


def save_weights(
    model: nn.Module, target: Path, *, metadata: Mapping[str, str] | None = None
) -> None:
    """Writes the weights of a model, whole or not at all.

    Args:
        target: `.safetensors` in timm's layout, or `.pth` in the official one, which the released
            code reads.
        metadata: Strings for the header of a `.safetensors` file.

    Raises:
        CheckpointError: Another ending.
    """
    if target.suffix == ".safetensors":
        state = {key: t.detach().cpu().contiguous() for key, t in model.state_dict().items()}
        content = safetensors.torch.save(state, {"format": "pt", **(metadata or {})})
        files.write_atomic(target, content)
    elif target.suffix == ".pth":
        buffer = io.BytesIO()
        torch.save({"model": official_state(model)}, buffer)
        files.write_atomic(target, buffer.getvalue())
    else:
        raise CheckpointError(f"{target}: weights are written as .safetensors or .pth")
