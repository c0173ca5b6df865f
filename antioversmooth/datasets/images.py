"""Images that are files, or stretches of larger files: read by their index, from any process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Endings, in lower case, of what counts as an image; those of torchvision's ImageFolder."""


class Encoded(Protocol):
    """The images of one split, each as the bytes of an image file."""

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Class of each image. Shape: [number of images]."""

    def read(self, index: int) -> bytes:
        """The image's file.

        Raises:
            OSError: It cannot be read.
        """

    def name(self, index: int) -> str:
        """Where the image lies, for messages."""


@dataclass(frozen=True)
class Stored:
    """Images under a folder: whole files, or stretches of the files of `archives`.

    Arrays throughout, since forked workers would copy lists page by page as they read them.
    """

    root: Path
    names: npt.NDArray[np.bytes_]
    """Relative to `root`, or within the archive."""
    labels: npt.NDArray[np.int64]
    archives: tuple[str, ...] = ()
    """Relative to `root`; none where every image is a file of its own."""
    places: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 3), np.int64))
    """Number of the archive, first byte and number of bytes of each image; empty where there are no
    archives."""

    def read(self, index: int) -> bytes:
        if not self.archives:
            return Path(self.name(index)).read_bytes()
        archive, offset, size = (int(value) for value in self.places[index])
        # Opened for each image, as a file of its own would be: an open file cannot be handed to
        # another process.
        with (self.root / self.archives[archive]).open("rb", buffering=0) as file:
            return os.pread(file.fileno(), size, offset)

    def name(self, index: int) -> str:
        inside = os.fsdecode(self.names[index])
        if not self.archives:
            return str(self.root / inside)
        return f"{self.root / self.archives[self.places[index, 0]]}:{inside}"


def is_image(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS)


def packed(names: Sequence[str]) -> npt.NDArray[np.bytes_]:
    """Names as one array of bytes."""
    return np.array([os.fsencode(name) for name in names], np.bytes_)
