"""Files of weights: read without executing anything in them, written whole or not at all."""

from __future__ import annotations

import io
import json
import re
import shlex
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from antioversmooth import files, weight_files
from antioversmooth.errors import CheckpointError, and_more
from antioversmooth.models import pickles
from antioversmooth.models.layouts import State, official_state, without_wrappers

METADATA = "metadata"
"""Key of strings about the weights, in a file of torch.save, as in the header of the others."""

CLASSES = "classes"
"""Key of the names of the classes, in a file of torch.save and in the metadata of another."""

_WEIGHTS = ("model", "state_dict")
"""Keys under which a checkpoint holds its weights; the first that is there is used."""

_TRAINING = ("optimizer", "lr_scheduler", "scaler", "epoch", "step")
"""Keys under which a checkpoint holds the state of a training: ours, DeiT's, Swin's."""

_AVERAGES = ("ema", "model_ema", "state_dict_ema")
"""The same for their moving average: ours, DeiT's, timm's. A file without others gives these."""


@dataclass(frozen=True)
class StoredState:
    """The weights in a file, as they are named there."""

    tensors: State
    key: str = ""
    """The key that they are under; empty where the file is a state dict."""
    beside: tuple[str, ...] = ()
    """Keys of other weights in the file."""
    no_tensors: tuple[str, ...] = ()
    """Keys between those of the tensors that hold other values."""
    training: tuple[str, ...] = ()
    """Keys of the file with the state of the training beside the weights."""


def read_state(source: Path, *, average: bool = False, key: str = "") -> StoredState:
    """The weights in a file; nothing in it is executed.

    Args:
        average: Read the moving average in the file instead.
        key: The key or the prefix of the weights, in a file that holds several.

    Raises:
        CheckpointError: The file is missing, torn, or holds no state dict, or several.
    """
    content = _read(source)
    states = _states(content)
    if average:
        states = {name: states[name] for name in _AVERAGES if name in states}
        if not states:
            raise CheckpointError(
                f"{source} holds no moving average, under none of {', '.join(_AVERAGES)}"
            )
    if key:
        return _named_state(source, states, key)
    found = next((name for name in (*_WEIGHTS, *_AVERAGES) if name in states), None)
    if found is None and len(states) > 1:
        raise several_states(str(source), list(states))
    if not states:
        raise CheckpointError(
            f"{source} holds no state dict, neither as it is nor under {', '.join(_WEIGHTS)}"
            f"{_hint(content)}"
        )
    name = next(iter(states)) if found is None else found
    stored = _stored(source, states[name], name, tuple(one for one in states if one != name))
    return replace(stored, training=tuple(key for key in _TRAINING if name and key in content))


def several_states(source: str, names: Sequence[str]) -> CheckpointError:
    """The error about a file with several sets of weights, of which none is the usual one."""
    return CheckpointError(
        f"{source} holds several sets of weights: {', '.join(names)};"
        f" {choose_part(source, names[0])}"
    )


def choose_part(source: str, key: str) -> str:
    """Advice on how to use a part of the weights in a file."""
    return (
        "write the part that you mean to a file of its own: antioversmooth convert"
        f" {shlex.quote(source)} weights.safetensors --spec ROW --key {shlex.quote(key)}"
    )


def _states(content: Any) -> dict[str, dict[str, Any]]:
    """State dicts by their keys; the content itself, under the empty key, if it holds no other."""
    if not isinstance(content, dict):
        return {}
    found = {
        name: value for name, value in content.items() if isinstance(name, str) and _is_state(value)
    }
    return found or ({"": content} if _is_state(content) else {})


def _is_state(value: Any) -> bool:
    """Whether a value maps names to tensors; other values between them are fewer."""
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        return False
    tensors = sum(isinstance(item, Tensor) for item in value.values())
    return 0 < tensors >= len(value) / 2


def _named_state(source: Path, states: Mapping[str, dict[str, Any]], key: str) -> StoredState:
    """The weights under a key of the file, or under a prefix: teacher, student.backbone."""
    for name, state in sorted(states.items(), key=lambda item: item[0] != key):
        within = key.removeprefix(name).removeprefix(".") if _begins(key, name) else key
        chosen = {k: v for k, v in state.items() if not within or _begins(k, within)}
        if chosen:
            return _stored(source, chosen, name, ())
    names = ", ".join(filter(None, states)) or "a state dict"
    raise CheckpointError(f"{source} holds no weights under {key}; it holds {names}")


def _begins(key: str, parts: str) -> bool:
    """Whether a dotted key begins with these parts."""
    return f"{key}.".startswith(f"{parts}.")


def _stored(
    source: Path, state: Mapping[str, Any], key: str, beside: tuple[str, ...]
) -> StoredState:
    """The tensors of a state dict, without the names of wrappers."""
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    named = {without_wrappers(name): value for name, value in tensors.items()}
    if len(named) < len(tensors):
        raise CheckpointError(
            f"{source} holds weights twice, once under the names of a wrapper of torch: _orig_mod"
        )
    no_tensors = tuple(name for name in state if name not in tensors)
    return StoredState(named, key, beside, no_tensors)


def read_metadata(source: Path) -> dict[str, str]:
    """Metadata of a file of weights; empty where it has none or cannot be read."""
    if source.suffix != ".safetensors":
        return _metadata_beside(source)
    try:
        with safetensors.safe_open(source, "pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError):
        return {}


def _metadata_beside(source: Path) -> dict[str, str]:
    """The strings that a file of torch.save holds beside its weights."""
    if not source.is_file() or weight_files.is_index(source):
        return {}
    try:
        content = _read(source)
    except CheckpointError:
        # raised again by the reader of its tensors
        return {}
    found = content.get(METADATA) if isinstance(content, dict) else None
    pairs = found.items() if isinstance(found, dict) else ()
    return {key: value for key, value in pairs if isinstance(key, str) and isinstance(value, str)}


def read_classes(source: Path) -> list[str] | None:
    """Names of the classes in a file of weights, in order; None where it does not record them."""
    if source.suffix == ".safetensors":
        try:
            names = json.loads(read_metadata(source).get(CLASSES, "null"))
        except (ValueError, RecursionError):
            return None
    else:
        try:
            content = _read(source)
        except CheckpointError:
            # raised again by the reader of its tensors
            return None
        names = content.get(CLASSES) if isinstance(content, dict) else None
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return names if is_list else None


def _read(source: Path) -> Any:
    """The content of a file, or the tensors of all shards that an index lists."""
    if weight_files.is_index(source):
        return _read_shards(source)
    weight_files.require_whole(source)
    return _read_file(source)


def _read_shards(index: Path) -> State:
    """The tensors of all shards, each from the file that the index names for it."""
    place = weight_files.shards(index)
    state: State = {}
    for path in sorted(set(place.values())):
        content = _read_file(path)
        expected = {key for key, file in place.items() if file == path}
        found = content.keys() if isinstance(content, dict) else set()
        if found != expected:
            wrong = sorted(map(str, found ^ expected))
            raise CheckpointError(
                f"{path} does not hold what {index.name} lists: {and_more(wrong, 6)}; they are of"
                " different weights, or one of them is not up to date"
            )
        state |= content
    return state


def _read_file(source: Path) -> Any:
    load = safetensors.torch.load_file if source.suffix == ".safetensors" else pickles.load
    try:
        return load(source)
    except FileNotFoundError as err:
        raise CheckpointError(f"{source}: there is no such file") from err
    except Exception as err:
        # torch's reader raises any kind of error for bytes that are no weights
        raise CheckpointError(
            f"{source} is torn, or holds more than weights: {_unreadable(source, err)}"
        ) from err


def _unreadable(source: Path, err: Exception) -> str:
    """Reason why a file of weights cannot be read.

    Torch's own message is left out, since it advises to execute the content: no advice here does.
    """
    if isinstance(err, OSError) and err.strerror:
        return err.strerror
    if isinstance(err, zipfile.BadZipFile):
        return f"a part of it is damaged, by the checksums in it: {err}; fetch or save it again"
    if found := re.search(r"GLOBAL (\S+)", str(err)):
        return f"it asks for {found[1]}, which nothing but code that runs would do"
    if "Unsupported operand" in str(err):
        return (
            "it was saved with another pickle protocol than torch's, 2, which alone is read without"
            " executing anything; where it was made, save it again without pickle_protocol"
        )
    if source.suffix != ".safetensors" and pickles.is_whole(source):
        return (
            "it holds objects that are no plain tensors; where its code is installed, save"
            " model.state_dict() alone"
        )
    kind = "safetensors file" if source.suffix == ".safetensors" else "file that torch.save wrote"
    return f"it is no {kind}, or is cut off ({source.stat().st_size:,} bytes)"


def _hint(content: Any) -> str:
    """The reason where a file holds the whole model as an object."""
    values = (
        [content, *(content.get(key) for key in _WEIGHTS)]
        if isinstance(content, dict)
        else [content]
    )
    objects = [type(value).__name__ for value in values if isinstance(value, pickles.StandIn)]
    if not objects:
        return ""
    return (
        f"; it holds an object of {objects[0]}: where that class is installed, save the"
        " state_dict() of the object instead"
    )


def save_weights(
    model: nn.Module,
    target: Path,
    *,
    metadata: Mapping[str, str] | None = None,
    classes: Sequence[str] | None = None,
) -> None:
    """Writes the weights of a model, whole or not at all.

    Args:
        target: `.safetensors` in timm's layout, or `.pth` in the official one, which the released
            code reads.
        metadata: Strings about them: in the header of a `.safetensors` file, beside the weights
            of a `.pth` file.
        classes: Names of the model's classes, in order, which either file records.

    Raises:
        CheckpointError: Another ending.
    """
    if target.suffix == ".safetensors":
        state = {key: t.detach().cpu().contiguous() for key, t in model.state_dict().items()}
        header = {"format": "pt", **(metadata or {})}
        if classes is not None:
            header[CLASSES] = json.dumps(list(classes))
        content = safetensors.torch.save(state, header)
        files.write_atomic(target, content)
    elif target.suffix == ".pth":
        buffer = io.BytesIO()
        beside: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
        if classes is not None:
            beside[CLASSES] = list(classes)
        torch.save({"model": official_state(model), **beside}, buffer)
        files.write_atomic(target, buffer.getvalue())
    else:
        raise CheckpointError(f"{target}: weights are written as .safetensors or .pth")
