"""Decodes every image of a data set in parallel processes, and names those that are damaged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from torch.utils.data import DataLoader, Dataset

from antioversmooth.datasets.dataset import ImageDataset
from antioversmooth.datasets.images import ArrayImages, EncodedImages
from antioversmooth.errors import DataError
from antioversmooth.training.data.decoding import decode, kind_of
from antioversmooth.training.data.workers import NOT_OF_AN_IMAGE, start_worker

CHUNK = 64
"""Images that a process decodes at a time."""


class Image(NamedTuple):
    """One image after decoding."""

    name: str
    reason: str
    """Why it cannot be decoded; empty: it can."""
    kind: str = ""
    """Format and mode, as `JPEG RGB`."""
    width: int = 0
    """In pixels."""
    height: int = 0


@dataclass
class Inspection:
    """Summary of decoded images."""

    num_images: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    """Reason by name."""
    kinds: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Images of each width and height in pixels."""

    def add(self, image: Image) -> None:
        """Counts an image."""
        self.num_images += 1
        if image.reason:
            self.damaged[image.name] = image.reason
        else:
            self.kinds[image.kind] += 1
            self.sizes[image.width, image.height] += 1


def decoded_images(dataset: ImageDataset, *, processes: int) -> Iterator[Image]:
    """Every image of both splits, decoded; none of splits whose pixels are arrays.

    Args:
        processes: Processes beside this one.

    Raises:
        DataError: One of the processes was killed.
    """
    for images in (dataset.train, dataset.val):
        if not isinstance(images, ArrayImages):
            yield from _decoded(images, processes)


def _decoded(images: EncodedImages, processes: int) -> Iterator[Image]:
    loader: DataLoader[Image] = DataLoader(
        _Decoding(images),
        batch_size=CHUNK,
        num_workers=processes,
        collate_fn=list,
        worker_init_fn=partial(start_worker, None),
    )
    done = 0
    try:
        for chunk in loader:
            yield from chunk
            done += len(chunk)
    except RuntimeError as err:
        # DataLoader's, of a worker that a signal has ended
        raise DataError(
            f"a decoding process was killed at {images.name(done)} or one of the"
            f" {CHUNK * processes * 2} images after it: out of memory, or a crash of its decoder"
            f" ({err})"
        ) from err


class _Decoding(Dataset[Image]):
    def __init__(self, images: EncodedImages) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images.labels)

    def __getitem__(self, index: int) -> Image:
        name = self.images.name(index)
        try:
            content = self.images.read(index)
            _, height, width = decode(content).shape
            return Image(name, "", kind_of(content), width, height)
        except OSError as err:
            if err.errno in NOT_OF_AN_IMAGE:
                raise
            return Image(name, str(err))
