"""Classes of images that a person may have: a folder each, drawn in milliseconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("bar", "circle", "cross", "ring", "square", "stripes", "triangle")


def draw(path: Path, label: int, seed: int, side: int = 40) -> None:
    """Draws a square whose place and colour are those of its class, on noise."""
    pixels = np.random.default_rng(seed).integers(0, 60, (side, side + seed % 7, 3), np.uint8)
    pixels[4 * label : 4 * label + 8, 4:20, label % 3] = 250
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=95)
