"""Images of a data set, opened and held against what the spec says of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from antioversmooth import files
from antioversmooth.config import DataConfig
from antioversmooth.datasets import dataset as listing
from antioversmooth.datasets.images import Encoded
from antioversmooth.datasets.layouts.cifar import Pixels
from antioversmooth.datasets.layouts.packaged import PACKAGED, Packaged
from antioversmooth.errors import DataError
from antioversmooth.training.data.decoding import decode

SPLIT_SEED = 0
"""Of the training/validation split of sets that come without one; the same for every run."""


class Images(Protocol):
    """The images of one split."""

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Class of each image. Shape: [number of images]."""

    @property
    def stored(self) -> listing.Images:
        """The same, not decoded."""

    @property
    def in_memory(self) -> bool:
        """Whether opening an image reads no file."""

    def open(self, index: int) -> Tensor:
        """The image, decoded. Shape: [1 or 3 channels, height, width], uint8.

        Raises:
            OSError: The file cannot be read or is no image.
        """

    def name(self, index: int) -> str:
        """The image's file, for messages."""


@dataclass(frozen=True)
class ArrayImages:
    """Images held in memory."""

    stored: Pixels
    in_memory: bool = True

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        return self.stored.labels

    def open(self, index: int) -> Tensor:
        return torch.from_numpy(self.stored.pixels[index])

    def name(self, index: int) -> str:
        return self.stored.name(index)


@dataclass(frozen=True)
class FileImages:
    """Images that are read and decoded one by one."""

    stored: Encoded
    in_memory: bool = False

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        return self.stored.labels

    def open(self, index: int) -> Tensor:
        return decode(self.stored.read(index))

    def name(self, index: int) -> str:
        return self.stored.name(index)


@dataclass(frozen=True)
class ImageData:
    """Both splits of a data set."""

    train: Images
    val: Images
    num_classes: int
    fingerprint: str
    """See `Listing.fingerprint`."""

    def measures(self) -> dict[str, str]:
        """What tells this data from others, as far as there is such a measure; reads a few
        images."""
        found = {
            "fingerprint": self.fingerprint,
            "sample": listing.sample(self.train.stored, self.val.stored),
        }
        return {key: value for key, value in found.items() if value}


def open_data(config: DataConfig) -> ImageData:
    """The data set of a spec.

    Raises:
        DataError: It is missing, or is not what the spec says: other counts, classes or content.
    """
    if config.source in PACKAGED:
        return _from_table(config, PACKAGED[config.source])
    found = listing.listed(config)
    return ImageData(
        _images(found.train), _images(found.val), len(found.classes), found.fingerprint
    )


def _images(stored: listing.Images) -> Images:
    return ArrayImages(stored) if isinstance(stored, Pixels) else FileImages(stored)


def check_readable(unreadable: Collection[str], allowed: int) -> None:
    """Raises DataError where more images than `data.max_corrupt` allows could not be read; names
    them."""
    if len(unreadable) > allowed:
        names = sorted(unreadable)
        raise DataError(
            f"{len(names)} image(s) cannot be read, data.max_corrupt allows {allowed}:"
            f" {', '.join(names[:5])}; restore them, or raise data.max_corrupt"
        )


def _from_table(config: DataConfig, packaged: Packaged) -> ImageData:
    """A set stored as text, one image a line with its label last."""
    path, side = packaged.path(), packaged.side
    table = np.loadtxt(path, delimiter=",", dtype=np.float32)
    pixels = (
        np.round(table[:, :-1] * (255 / packaged.white)).astype(np.uint8).reshape(-1, 1, side, side)
    )
    labels = table[:, -1].astype(np.int64)
    train, val = stratified_split(labels)
    num_classes, fingerprint = len(np.unique(labels)), files.sha256(path)
    counts = {"num_classes": num_classes, "num_train": len(train), "num_val": len(val)}
    listing.check(config, {**counts, "fingerprint": fingerprint})
    return ImageData(
        ArrayImages(Pixels(pixels[train], labels[train], f"{path.name} (training part)")),
        ArrayImages(Pixels(pixels[val], labels[val], f"{path.name} (validation part)")),
        num_classes,
        fingerprint,
    )


def stratified_split(
    labels: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices of a training and a validation part: of each class a fifth is for validation, drawn
    with a fixed seed."""
    generator = np.random.default_rng(SPLIT_SEED)
    train, val = [], []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        cut = round(len(members) / 5)
        val.append(members[:cut])
        train.append(members[cut:])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(val))
