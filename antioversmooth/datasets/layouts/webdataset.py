"""WebDataset shards, as timm writes them: consecutive members key.jpg and key.cls (or key.json).

Such shards are meant to be read sequentially, in an order that depends on shards, workers and a
shuffle buffer. Here the order is a function of seed and epoch, and every validation image counts
once: the headers are read once into an index, and images by their byte range. That costs one seek
an image, as in a folder of files.
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np

from antioversmooth.config import DataConfig
from antioversmooth.datasets.images import FileImages, encode_names, is_image
from antioversmooth.datasets.layouts.tar import Member, members
from antioversmooth.datasets.missing import missing_data
from antioversmooth.errors import DataError

PATTERNS = {"train": "*train*.tar", "val": "*val*.tar"}
CLASS = "cls"
"""Extension of the member that holds the class number as text."""


def scan_split(config: DataConfig, split: str) -> tuple[list[str], FileImages, list[Path]]:
    """Classes, named by their numbers; images, in the order of the shards; and the shards.

    Raises:
        DataError: A shard is missing, or a sample has no image or no label.
    """
    root = Path(config.root or "")
    shards = _shards(config, root, getattr(config, split) or PATTERNS[split])
    found = [
        (number, image, label)
        for number, shard in enumerate(shards)
        for image, label in _samples(shard, config.label or CLASS)
    ]
    if not found:
        raise DataError(f"{shards[0]}, ... hold no sample")
    labels = np.array([label for _, _, label in found], np.int64)
    images = FileImages(
        root,
        encode_names([image.name for _, image, _ in found]),
        labels,
        tuple(str(shard.relative_to(root)) for shard in shards),
        np.array([(number, image.offset, image.size) for number, image, _ in found], np.int64),
    )
    return [str(label) for label in range(int(labels.max()) + 1)], images, shards


def _shards(config: DataConfig, root: Path, pattern: str) -> list[Path]:
    """Files that match a pattern: {000..127} is a range, * matches anything."""
    shards: list[Path] = []
    for name in _expand_range(pattern):
        found = sorted(map(Path, glob.glob(os.path.join(glob.escape(str(root)), name))))
        if not found:
            raise missing_data(config, f"there is no file {root / name}")
        shards += found
    return shards


def _expand_range(pattern: str) -> list[str]:
    match = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if match is None:
        return [pattern]
    first, last = match.groups()
    numbers = [f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1)]
    expanded = (pattern.replace(match.group(), number, 1) for number in numbers)
    return [name for one in expanded for name in _expand_range(one)]


def _samples(shard: Path, label: str) -> Iterator[tuple[Member, int]]:
    """The image and the label of each sample."""
    with shard.open("rb") as file:
        for key, group in groupby(members(shard), _key):
            parts = list(group)
            image = next((part for part in parts if is_image(part.name)), None)
            if image is None:
                raise DataError(f"{shard}: sample {key} has no image")
            yield image, _label(file.fileno(), shard, parts, label)


def _key(member: Member) -> str:
    """Path of the member up to the first dot of its file name."""
    folder, name = os.path.split(member.name)
    return os.path.join(folder, name.partition(".")[0])


def _label(descriptor: int, shard: Path, parts: list[Member], label: str) -> int:
    """The class number, from key.cls or from a field of key.json."""
    extension = CLASS if label == CLASS else "json"
    for part in parts:
        if part.name.endswith(f".{extension}"):
            content = os.pread(descriptor, part.size, part.offset)
            try:
                number = int(content) if extension == CLASS else int(json.loads(content)[label])
            except (ValueError, KeyError, TypeError) as err:
                raise DataError(
                    f"{shard}:{part.name} has no label ({label}): {content[:80]!r}"
                ) from err
            if number < 0:
                raise DataError(f"{shard}:{part.name}: the label {number} is negative")
            return number
    raise DataError(
        f"{shard}: sample {_key(parts[0])} has no .{extension}, which data.label={label} requires"
    )
