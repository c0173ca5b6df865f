"""Files of weights as both planes see them, without torch: checksums, shards, sizes of tensors."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from antioversmooth import files
from antioversmooth.errors import CheckpointError, and_more, similar

INDEX = ".index.json"
"""Ending of the index of weights in several files: model.safetensors.index.json."""

_SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})(\.\w+)")
"""Usual name of a shard: model-00001-of-00002.safetensors."""


def is_index(path: Path) -> bool:
    """Whether a file is the index of shards."""
    return path.name.endswith(INDEX)


def checksum(path: Path) -> str:
    """sha256 in hex of the weights in a file; of an index together with all its shards.

    Raises:
        CheckpointError: An index that cannot be used, or a shard that is missing.
        OSError: The file cannot be read.
    """
    if not is_index(path):
        return files.sha256(path)
    parts = [path, *sorted(set(shards(path).values()))]
    lines = "".join(f"{files.sha256(part)}  {part.name}\n" for part in parts)
    return hashlib.sha256(lines.encode()).hexdigest()


def is_complete(path: Path) -> bool:
    """Whether a file is there, and with an index all of its shards."""
    if not is_index(path):
        return path.is_file()
    try:
        return bool(shards(path))
    except CheckpointError:
        return False


def shards(index: Path) -> dict[str, Path]:
    """The file of each tensor that an index lists; all in its folder, and there.

    Raises:
        CheckpointError: It is no index, a shard is missing, or lies in another folder.
    """
    if not index.is_file():
        raise CheckpointError(f"{index}: there is no such file")
    named = _weight_map(index)
    if not named:
        raise CheckpointError(f"{index} is no index of shards: it has no weight_map, or is no JSON")
    found = {key: _shard(index, name) for key, name in named.items()}
    missing = sorted({path.name for path in found.values() if not path.is_file()})
    if missing:
        raise CheckpointError(
            f"{index} lists shards that are not in its folder: {and_more(missing, 6)}; put all of"
            " them beside the index"
        )
    return found


def _weight_map(index: Path) -> dict[str, Any]:
    """The names of shards by those of tensors; empty where the file is no index."""
    try:
        content = files.read_json(index)
    except (ValueError, OSError):
        return {}
    named = content.get("weight_map") if isinstance(content, dict) else None
    return named if isinstance(named, dict) else {}


def _shard(index: Path, name: object) -> Path:
    path = index.parent / str(name)
    if not isinstance(name, str) or path.name != name or is_index(path):
        raise CheckpointError(
            f"{index} lists the shard {name!r}; a shard is a file in the folder of its index"
        )
    return path


def require_whole(path: Path) -> None:
    """Raises CheckpointError where a file is one of several shards of the weights."""
    for index in sorted(path.parent.glob(f"*{INDEX}")):
        listed = _weight_map(index).values()
        if path.name in listed and any(name != path.name for name in listed):
            raise CheckpointError(
                f"{path} is one of several shards of the weights; name their index instead: {index}"
            )
    shard = _SHARD.fullmatch(path.name)
    if shard and int(shard[2]) > 1:
        raise CheckpointError(
            f"{path} is one of {int(shard[2])} shards of the weights; fetch the others and their"
            f" index {shard[1]}{shard[3]}{INDEX} into its folder, and name the index instead"
        )


def require_classes(source: Path, num_classes: int) -> None:
    """Raises CheckpointError where the classifier in a file has another number of classes.

    Does nothing for a file whose sizes cannot be read here: what loads it asks again.
    """
    sizes = {
        shape[0]
        for name, shape in safetensors_shapes(source).items()
        if len(shape) == 2 and _CLASSIFIER.search(name)
    }
    if sizes and num_classes not in sizes:
        raise other_classes(str(source), min(sizes), num_classes)


_CLASSIFIER = re.compile(r"(^|\.)(head|head\.fc|head_dist)\.weight$")
"""Names of a classifier's weights in DeiT, CaiT and Swin, official and timm's."""


def other_classes(source: str, theirs: int, ours: int) -> CheckpointError:
    """The error about a classifier of other classes where nothing trains a new one."""
    return CheckpointError(
        f"{source} has a classifier of {theirs} classes, and this model one of {ours}. Nothing"
        " trains a new classifier here, and an untrained one only guesses: choose a row and data"
        f" of {theirs} classes (data.num_classes), or fine-tune these weights first"
        " (recipe.init_from, with recipe.epochs above 0)"
    )


def safetensors_shapes(path: Path) -> dict[str, list[int]]:
    """Shapes of the tensors in a `.safetensors` file, or in all that an index lists, by name.

    Only the headers are read. Empty for other files, and for those that cannot be read: what loads
    them says why.
    """
    parts = sorted(set(shards(path).values())) if is_index(path) else [path]
    found: dict[str, list[int]] = {}
    for part in parts:
        found |= _header_shapes(part) if part.suffix == ".safetensors" else {}
    return found


_LARGEST_HEADER = 100_000_000
"""Bytes; the format's own limit."""


def _header_shapes(path: Path) -> dict[str, list[int]]:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, _LARGEST_HEADER)))
        return {key: list(entry["shape"]) for key, entry in header.items() if "shape" in entry}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def require_published(tag: str) -> None:
    """Raises CheckpointError where timm publishes no weights under a tag. Imports timm."""
    import timm

    if not timm.is_model_pretrained(tag):
        near = similar(tag, timm.list_pretrained(), 3, cutoff=0.5)
        raise CheckpointError(
            f"timm:{tag}: timm has no weights of that name; similar names:"
            f" {', '.join(near) or 'none'}"
        )
