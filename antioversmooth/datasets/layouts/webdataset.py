"""WebDataset shards, as timm's are: consecutive members key.jpg and key.cls (or key.json) make a
sample.

They are made for reading from front to end, in an order that depends on shards, workers and a
shuffle buffer. Here a sample's place is a function of seed and epoch, and every validation image
counts once, so the shards' headers are read once into an index, and images by their place in the
file. That costs one seek an image, as a folder of files does.
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
from antioversmooth.datasets.images import Stored, is_image, packed
from antioversmooth.datasets.layouts.tar import Member, members
from antioversmooth.datasets.missing import missing
from antioversmooth.errors import DataError

DEFAULT = {"train": "*train*.tar", "val": "*val*.tar"}
CLASS = "cls"
"""Ending of the member that is the number of the class, as text."""


def scan(config: DataConfig, split: str) -> tuple[list[str], Stored, list[Path]]:
    """Classes (by their number), images in the order of the shards, and the shards.

    Raises:
        DataError: A shard is missing, or a sample has no image or no label.
    """
    root = Path(config.root or "")
    shards = _shards(config, root, getattr(config, split) or DEFAULT[split])
    found = [
        (number, image, label)
        for number, shard in enumerate(shards)
        for image, label in _samples(shard, config.label or CLASS)
    ]
    if not found:
        raise DataError(f"{shards[0]}, ... hold no sample")
    labels = np.array([label for _, _, label in found], np.int64)
    images = Stored(
        root,
        packed([image.name for _, image, _ in found]),
        labels,
        tuple(str(shard.relative_to(root)) for shard in shards),
        np.array([(number, image.offset, image.size) for number, image, _ in found], np.int64),
    )
    return [str(label) for label in range(int(labels.max()) + 1)], images, shards


def _shards(config: DataConfig, root: Path, pattern: str) -> list[Path]:
    """Files that a pattern names: {000..127} counts, * stands for anything."""
    shards: list[Path] = []
    for name in _counted(pattern):
        found = sorted(map(Path, glob.glob(os.path.join(glob.escape(str(root)), name))))
        if not found:
            raise missing(config, f"there is no file {root / name}")
        shards += found
    return shards


def _counted(pattern: str) -> list[str]:
    match = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if match is None:
        return [pattern]
    first, last = match.groups()
    numbers = [f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1)]
    return [
        name for number in numbers for name in _counted(pattern.replace(match.group(), number, 1))
    ]


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
    """Its name up to the first dot of the last part."""
    folder, name = os.path.split(member.name)
    return os.path.join(folder, name.partition(".")[0])


def _label(descriptor: int, shard: Path, parts: list[Member], label: str) -> int:
    """The content of key.cls, or a field of key.json."""
    ending = CLASS if label == CLASS else "json"
    for part in parts:
        if part.name.endswith(f".{ending}"):
            content = os.pread(descriptor, part.size, part.offset)
            try:
                number = int(content) if ending == CLASS else int(json.loads(content)[label])
            except (ValueError, KeyError, TypeError) as err:
                raise DataError(
                    f"{shard}:{part.name} has no label ({label}): {content[:80]!r}"
                ) from err
            if number < 0:
                raise DataError(f"{shard}:{part.name}: the label {number} is no class")
            return number
    raise DataError(
        f"{shard}: sample {_key(parts[0])} has no .{ending}, which data.label={label} asks for"
    )
