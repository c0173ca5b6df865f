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
from antioversmooth.datasets import passed_over
from antioversmooth.datasets.images import FileImages, encode_names
from antioversmooth.datasets.layouts.tar import Member, members
from antioversmooth.datasets.missing import missing_data
from antioversmooth.datasets.passed_over import PassedOver, file_kind, litter_kind
from antioversmooth.errors import DataError

PATTERNS = {"train": "*train*.tar", "val": "*val*.tar"}
CLASS = "cls"
"""Extension of the member that holds the class number as text."""
METADATA_NAME = r"__[^/]*__($|/)"
"""Names of members that are about a shard, as in the library webdataset (tar_file_iterator)."""


def scan_split(config: DataConfig, split: str) -> tuple[list[str], FileImages, list[Path]]:
    """Classes, named by their numbers; images, in the order of the shards; and the shards with
    their folders, whose time stamps show a change.

    Raises:
        DataError: A shard is missing or torn, or a sample has not one image and one label.
    """
    root = Path(config.root or "")
    shards = _shards(config, root, getattr(config, split) or PATTERNS[split])
    passed = PassedOver()
    found = [
        (number, image, label)
        for number, shard in enumerate(shards)
        for image, label in _samples(shard, root, config.label or CLASS, passed)
    ]
    if not found:
        raise DataError(f"{shards[0]}, ... hold no sample{passed.note()}")
    labels = np.array([label for _, _, label in found], np.int64)
    images = FileImages(
        root,
        encode_names([image.name for _, image, _ in found]),
        labels,
        tuple(str(shard.relative_to(root)) for shard in shards),
        np.array([(number, image.offset, image.size) for number, image, _ in found], np.int64),
        passed_over=passed,
    )
    folders = dict.fromkeys([root, *(shard.parent for shard in shards)])
    return [str(label) for label in range(int(labels.max()) + 1)], images, [*folders, *shards]


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


def _samples(
    shard: Path, root: Path, label: str, passed: PassedOver
) -> Iterator[tuple[Member, int]]:
    """The image and the label of each sample.

    Args:
        passed: Counts the members that belong to no sample.
    """
    with shard.open("rb") as file:
        for key, group in groupby(_parts(shard, root, passed), _key):
            parts = list(group)
            images = [part for part in parts if file_kind(part.name) is None]
            image = _only(shard, key, "image", images)
            yield image, _label(file.fileno(), shard, key, parts, label)


def _parts(shard: Path, root: Path, passed: PassedOver) -> Iterator[Member]:
    """Members that belong to samples, by the rules of the library webdataset.

    Raises:
        DataError: One occurs twice.
    """
    contents = PassedOver()
    found = list(members(shard, root, contents))
    if twice := contents.get(passed_over.REPLACED):
        raise DataError(
            f"{twice['examples'][0]} occurs more than once in its shard: which one is the sample's?"
            " Write the shard again with one of them"
        )
    passed.add_all(contents)
    for member in found:
        kind = litter_kind(member.name.split("/"))
        if re.match(METADATA_NAME, member.name):
            kind = passed_over.METADATA
        elif kind is None and "." not in os.path.basename(member.name):
            kind = passed_over.NO_ENDING
        if kind:
            passed.add(kind, f"{shard.relative_to(root)}:{member.name}")
        else:
            yield member


def _key(member: Member) -> str:
    """Path of the member up to the first dot of its file name, as in the library webdataset."""
    folder, name = os.path.split(member.name)
    return os.path.join(folder, name.partition(".")[0])


def _only(shard: Path, key: str, what: str, parts: list[Member]) -> Member:
    """The only part of its kind.

    Raises:
        DataError: There is none, or several.
    """
    if len(parts) > 1:
        names = " and ".join(part.name for part in parts[:2])
        raise DataError(
            f"{shard}: sample {key} has {len(parts)} instead of one {what}: {names}. The key of a"
            " sample ends at the first dot of a file name; write the shards with keys without"
            " dots, and one image per sample"
        )
    if not parts:
        raise DataError(f"{shard}: sample {key} has no {what}")
    return parts[0]


def _label(descriptor: int, shard: Path, key: str, parts: list[Member], label: str) -> int:
    """The class number, from key.cls or from a field of key.json."""
    extension = CLASS if label == CLASS else "json"
    what = f".{extension}, which data.label={label} requires"
    part = _only(shard, key, what, [p for p in parts if p.name.lower().endswith(f".{extension}")])
    content = os.pread(descriptor, part.size, part.offset)
    try:
        found = content if extension == CLASS else json.loads(content)[label]
        number = int(found)
        if isinstance(found, float) and found != number:
            raise ValueError(f"{found} is no class number")
    except (ValueError, KeyError, TypeError, OverflowError) as err:
        raise DataError(f"{shard}:{part.name} has no label ({label}): {content[:80]!r}") from err
    if number < 0:
        raise DataError(f"{shard}:{part.name}: the label {number} is negative")
    return number
