"""Reads images of a data set in parallel processes: sizes, damage, mean and standard deviation."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from antioversmooth.datasets.dataset import ImageDataset
from antioversmooth.datasets.images import Images
from antioversmooth.datasets.survey import Seen, Survey
from antioversmooth.errors import DataError
from antioversmooth.training.data.decoding import is_turned, open_image
from antioversmooth.training.data.workers import NOT_OF_AN_IMAGE, start_worker

MOST = 20_000
"""Images of a split that are read; of more, as many, evenly spaced."""
CHUNK = 32
"""Images that a process reads at a time."""


class _Read(NamedTuple):
    image: Seen
    moments: torch.Tensor
    """Mean and mean square of each channel on a 0..1 scale. Shape: [2, 3], float64."""


def survey(dataset: ImageDataset, root: str, *, processes: int) -> Survey:
    """Reads the images of both splits, of large ones a part.

    Args:
        root: Folder that names of images are relative to.
        processes: Processes beside this one; 0: none.

    Raises:
        DataError: No training image can be decoded, or a process was killed.
    """
    seen: list[Seen] = []
    moments = []
    counts = {}
    for split, images in (("train", dataset.train), ("val", dataset.val)):
        counts[split] = np.bincount(images.labels, minlength=len(dataset.classes)).tolist()
        for read in _read_all(_Reading(images, split, root), processes):
            seen.append(read.image)
            if split == "train" and not read.image.reason:
                moments.append(read.moments)
    if not moments:
        raise DataError(f"{root}: no training image can be decoded: {seen[0].reason}")
    mean, square = torch.stack(moments).mean(dim=0)
    std = (square - mean**2).clamp(min=0).sqrt()
    return Survey(dataset.classes, counts, seen, mean.tolist(), std.tolist())


def _read_all(reading: _Reading, processes: int) -> Iterator[_Read]:
    loader: DataLoader[_Read] = DataLoader(
        reading,
        batch_size=CHUNK,
        num_workers=processes,
        collate_fn=list,
        worker_init_fn=partial(start_worker, None),
    )
    try:
        for chunk in loader:
            yield from chunk
    except RuntimeError as err:
        # DataLoader's, of a worker that a signal has ended
        raise DataError(
            f"a decoding process was killed: out of memory, or a crash ({err})"
        ) from err


class _Reading(Dataset[_Read]):
    def __init__(self, images: Images, split: str, root: str) -> None:
        count = len(images.labels)
        self.chosen = np.linspace(0, count - 1, min(MOST, count), dtype=int)
        self.images, self.split, self.root = images, split, root

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, item: int) -> _Read:
        index = int(self.chosen[item])
        name = self.images.name(index).removeprefix(self.root).lstrip(os.sep + ":")
        label = int(self.images.labels[index])
        try:
            pixels = open_image(self.images, index)
        except OSError as err:
            if err.errno in NOT_OF_AN_IMAGE:
                raise
            return _Read(Seen(self.split, name, label, str(err)), torch.zeros(2, 3))
        _, height, width = pixels.shape
        digest = hashlib.sha256(f"{width}x{height}:".encode())
        digest.update(pixels.permute(1, 2, 0).contiguous().numpy().tobytes())
        grey = bool((pixels == pixels[:1]).all())
        levels = pixels.to(torch.float64).flatten(1) / 255
        moments = torch.stack([levels.mean(dim=1), (levels**2).mean(dim=1)])
        seen = Seen(
            self.split,
            name,
            label,
            digest=digest.digest(),
            width=width,
            height=height,
            grey=grey,
            turned=is_turned(self.images, index),
        )
        return _Read(seen, moments)
