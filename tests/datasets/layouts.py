"""Images of the data sets of these tests."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

CLASSES = ("ash", "birch", "cedar")
COUNTS = {"train": 4, "val": 2}
"""Images of each class."""


def jpeg(seed: int) -> bytes:
    """A small image, another one for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 11, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def split_of(split: str) -> dict[str, bytes]:
    """The files of a split: <class>/<class><number>.jpg."""
    start = 0 if split == "train" else 1000
    return {
        f"{name}/{name}{number}.jpg": jpeg(start + 10 * label + number)
        for label, name in enumerate(CLASSES)
        for number in range(COUNTS[split])
    }
