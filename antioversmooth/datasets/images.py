"""The images of one split: files, byte ranges of archives, or arrays in memory."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from antioversmooth.datasets.passed_over import PassedOver
from antioversmooth.errors import DataError


class EncodedImages(Protocol):
    """Images that are read one by one, each as the bytes of an image file."""

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Class of each image. Shape: [number of images]."""

    def read(self, index: int) -> bytes:
        """The bytes of the image file.

        Raises:
            OSError: The file cannot be read.
        """

    def name(self, index: int) -> str:
        """Path of the image, for messages."""


@dataclass(frozen=True)
class FileImages:
    """Images under a folder: whole files, or byte ranges of the files in `archives`.

    All fields are arrays: forked workers would copy lists page by page as they read them.
    """

    root: Path
    names: npt.NDArray[np.bytes_]
    """Relative to `root`, or within the archive."""
    labels: npt.NDArray[np.int64]
    archives: tuple[str, ...] = ()
    """Relative to `root`; empty where every image is a file of its own."""
    ranges: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 3), np.int64))
    """Index of the archive, first byte and bytes of each image; empty without archives."""
    passed_over: PassedOver = field(default_factory=PassedOver)
    """Contents of this split's place that are none of its images; paths are relative to the root of
    the data set."""

    def read(self, index: int) -> bytes:
        if not self.archives:
            # without Path and a buffer, which take a third of the time of a read
            with open(self.name(index), "rb", buffering=0) as file:
                return file.readall()
        archive, offset, size = (int(value) for value in self.ranges[index])
        # Opened for each image, as a file of its own would be: an open file cannot be passed to
        # another process.
        with (self.root / self.archives[archive]).open("rb", buffering=0) as file:
            return os.pread(file.fileno(), size, offset)

    def name(self, index: int) -> str:
        inside = os.fsdecode(self.names[index])
        if not self.archives:
            return os.path.join(self.root, inside)
        return f"{self.root / self.archives[self.ranges[index, 0]]}:{inside}"


@dataclass(frozen=True)
class ArrayImages:
    """Decoded images of one size, in memory."""

    pixels: npt.NDArray[np.uint8]
    """Shape: [number of images, channels, height, width]."""
    labels: npt.NDArray[np.int64]
    source: str
    """The file that they come from, for messages."""
    of: int = 0
    """Images of that file, where these may be a part of them."""

    def name(self, index: int) -> str:
        return f"{self.source}[{index}]"


Images = EncodedImages | ArrayImages


def encode_names(names: Sequence[str]) -> npt.NDArray[np.bytes_]:
    """The names as one array of bytes."""
    return np.array([os.fsencode(name) for name in names], np.bytes_)


def check_unreadable(names: Collection[str], max_corrupt: int, cache: Path | None = None) -> None:
    """Raises DataError if more images than `data.max_corrupt` could not be read.

    Args:
        cache: The folder of the decoded cache that they were read from; None: from their files.
    """
    if len(names) > max_corrupt:
        place = f" in the cache {cache}" if cache else ""
        again = " and run `antioversmooth data SPEC --build-cache`" if cache else ""
        raise DataError(
            f"{len(names)} image(s) cannot be read{place}, data.max_corrupt allows {max_corrupt}:"
            f" {', '.join(sorted(names)[:5])}; restore them{again}, or raise data.max_corrupt"
        )
