"""The decoded cache: training images as bytes, resized once to a stated short side.

A training that reads it decodes no image file, which is half of the time of a view. Its folder is
named by the images' checksums and the side. It holds parts of `PART` images: the bytes of
one image after the other, and beside them a record: their shapes and sums. A part without a sound
record is not whole, and is made again; so any number of jobs can make the parts, and be killed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from antioversmooth import files
from antioversmooth.config import DataConfig
from antioversmooth.datasets.dataset import ImageDataset
from antioversmooth.datasets.images import (
    ArrayImages,
    EncodedImages,
    Images,
    check_unreadable,
)
from antioversmooth.errors import DataError, and_more

PART = 512
"""Images of a part: 130 MB at a short side of 256."""


@dataclass(frozen=True)
class DecodedImages:
    """Images whose pixels lie in files of bytes."""

    originals: EncodedImages
    folder: Path
    shapes: npt.NDArray[np.int64]
    """Height and width of each image; 0 where the original could not be read."""
    starts: npt.NDArray[np.int64]
    """First byte of each image in the file of its part."""

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Class of each image. Shape: [number of images]."""
        return self.originals.labels

    @property
    def unreadable(self) -> list[str]:
        """Names of the images that could not be read when the cache was made."""
        return [self.name(index) for index in np.flatnonzero(self.shapes[:, 0] == 0).tolist()]

    def name(self, index: int) -> str:
        """Path of the original, for messages."""
        return self.originals.name(index)

    def read(self, index: int) -> bytes:
        """The bytes of the original's file."""
        return self.originals.read(index)

    def pixels(self, index: int) -> npt.NDArray[np.uint8]:
        """[height, width, 3].

        Raises:
            OSError: The original could not be read, or the cache cannot.
        """
        height, width = self.shapes[index].tolist()
        if not height:
            raise OSError(f"{self.name(index)} could not be read when the cache was made")
        pixels = np.empty((height, width, 3), np.uint8)
        # without Path, which takes a fifth of the time of a read
        path = os.path.join(self.folder, _pixel_name(index // PART))
        # Read, not mapped into memory: each page of a map costs more than the copy of its bytes.
        with open(path, "rb", buffering=0) as file:
            file.seek(int(self.starts[index]))
            if file.readinto(pixels.data) != pixels.nbytes:
                raise OSError(f"{path} ends before the pixels of {self.name(index)} do")
        return pixels


@dataclass(frozen=True)
class DecodedCache:
    """The cache of a data set's training images, which may be whole or not."""

    folder: Path
    images: EncodedImages

    @property
    def parts(self) -> range:
        """Numbers of its parts."""
        return range(-(-len(self.images.labels) // PART))

    def indices(self, part: int) -> range:
        """The images of a part."""
        return range(part * PART, min((part + 1) * PART, len(self.images.labels)))

    def missing(self) -> list[int]:
        """Parts without a sound record, or whose file has another size than it says."""
        return [part for part in self.parts if self._shapes(part) is None]

    def damaged(self, parts: Sequence[int]) -> Iterator[int]:
        """Those of some parts whose bytes have another sum than when they were made."""
        for part in parts:
            record = files.read_mapping(_record_file(self.folder, part))
            if record.get("pixels") != files.sha256(_pixel_file(self.folder, part)):
                yield part

    def unreadable(self, part: int) -> list[int]:
        """Images of a part that could not be read when it was made; of a missing part none."""
        shapes = self._shapes(part)
        if shapes is None:
            return []
        return [
            index
            for index, (height, _) in zip(self.indices(part), shapes, strict=True)
            if not height
        ]

    @property
    def state(self) -> str:
        """The parts that are missing, and the images that could not be read, in words."""
        left = len(self.missing())
        parts = f"{left} of {len(self.parts)} parts are missing" if left else "whole"
        names = [self.images.name(index) for part in self.parts for index in self.unreadable(part)]
        if not names:
            return parts
        return (
            f"{parts}; {len(names)} image(s) cannot be read: {and_more(names, 5)}; restore them and"
            f" build it again, or set data.max_corrupt={len(names)}"
        )

    def write(self, part: int, pixels: Sequence[npt.NDArray[np.uint8]]) -> None:
        """Writes a part; an image that cannot be read is an array without pixels.

        Raises:
            OSError: The file system refuses.
        """
        content = b"".join(image.tobytes() for image in pixels)
        self.folder.mkdir(parents=True, exist_ok=True)
        files.write_atomic(_pixel_file(self.folder, part), content)
        shapes = [list(image.shape[:2]) for image in pixels]
        record = _record(part, shapes, hashlib.sha256(content).hexdigest())
        files.write_json(_record_file(self.folder, part), record)

    def open(self) -> DecodedImages:
        """The images of a whole cache.

        Raises:
            DataError: Parts of it are missing.
        """
        found = [self._shapes(part) for part in self.parts]
        whole = [shapes for shapes in found if shapes is not None]
        if len(whole) < len(found):
            raise DataError(
                f"data.cache: {len(found) - len(whole)} of {len(found)} parts are missing in"
                f" {self.folder}; make them with `antioversmooth data SPEC --build-cache`, or set"
                " data.cache=null, which is another run"
            )
        starts = [np.cumsum([0, *_sizes(shapes)[:-1].tolist()]) for shapes in whole]
        return DecodedImages(
            self.images, self.folder, np.concatenate(whole), np.concatenate(starts)
        )

    def _shapes(self, part: int) -> npt.NDArray[np.int64] | None:
        """Height and width of the images of a whole part."""
        found = files.read_mapping(_record_file(self.folder, part))
        recorded, path = found.get("shapes"), _pixel_file(self.folder, part)
        if found != _record(part, recorded, found.get("pixels")) or not path.is_file():
            return None
        shapes = np.array(recorded, np.int64).reshape(-1, 2)
        if len(shapes) != len(self.indices(part)):
            return None
        return shapes if path.stat().st_size == int(_sizes(shapes).sum()) else None


def _sizes(shapes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Bytes of each image."""
    sizes: npt.NDArray[np.int64] = shapes.prod(axis=1) * 3
    return sizes


def _record(part: int, shapes: Any, pixels: Any) -> dict[str, Any]:
    """The record of a part, with a sum over its number, its shapes and the sum of its pixels."""
    total = hashlib.sha256(json.dumps([part, shapes, pixels]).encode()).hexdigest()
    return {"shapes": shapes, "pixels": pixels, "sha256": total}


def _pixel_file(folder: Path, part: int) -> Path:
    return folder / _pixel_name(part)


def _pixel_name(part: int) -> str:
    return f"{part:06d}.pixels"


def _record_file(folder: Path, part: int) -> Path:
    return folder / f"{part:06d}.json"


def decoded_cache(config: DataConfig, dataset: ImageDataset) -> DecodedCache:
    """The place of a data set's cache, by `data.cache` and `data.cache_root`."""
    # the rules of the config refuse a cache of arrays, and one without a folder
    assert not isinstance(dataset.train, ArrayImages)
    assert config.cache_root is not None
    key = f"{dataset.fingerprint}:{dataset.sample_checksum()}:{config.cache}"
    name = hashlib.sha256(os.fsencode(key)).hexdigest()[:16]
    return DecodedCache(Path(config.cache_root) / f"{name}-{config.cache}", dataset.train)


def training_images(config: DataConfig, dataset: ImageDataset) -> Images:
    """The training images of a spec: those of the data set, or of its cache.

    Raises:
        DataError: The cache is not whole, or lacks more images than `data.max_corrupt`.
    """
    if config.cache is None:
        return dataset.train
    images = decoded_cache(config, dataset).open()
    check_unreadable(images.unreadable, config.max_corrupt, images.folder)
    return images
