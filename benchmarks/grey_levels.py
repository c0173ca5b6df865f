"""How far views are from those of the exact policy: grey levels, at the same boxes and draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from antioversmooth.config import DataConfig, RecipeConfig
from antioversmooth.datasets.images import FileImages
from antioversmooth.training.data.augmentation import TrainTransform, train_transform
from antioversmooth.training.data.caching import shortened
from antioversmooth.training.data.decoding import decode, decode_fast
from antioversmooth.training.randomness import seed_everything
from benchmarks.pipeline import CACHE_SIDE, OURS, SIDE, Variant

LEVELS = 256
COMPARED = ("ours, nearest", "ours, fast", "ours, decoded cache", "ours, decoded cache, fast")
"""Variants whose views differ from those of `ours`."""


@dataclass(frozen=True)
class Difference:
    """Absolute differences of bytes."""

    mean: float
    percentile_99: int
    """A hundredth of the bytes differ by more."""


def differences(
    images: FileImages, recipe: RecipeConfig, data: DataConfig, *, views: int
) -> dict[str, Difference]:
    """The difference of each variant of `COMPARED`.

    Args:
        views: Of each image.
    """
    exact = train_transform(recipe, data, SIDE)
    transforms = {name: train_transform(OURS[name].recipe(recipe), data, SIDE) for name in COMPARED}
    counts = {name: np.zeros(LEVELS, np.int64) for name in COMPARED}
    for index in range(len(images.labels)):
        content = images.read(index)
        whole = decode(content)
        for view in range(views):
            seed = index * views + view
            seed_everything(seed)
            expected = exact(whole).int()
            for name, transform in transforms.items():
                found = _view(content, whole, transform, OURS[name], seed)
                apart = (found.int() - expected).abs().flatten()
                counts[name] += torch.bincount(apart, minlength=LEVELS).numpy()
    return {name: _difference(found) for name, found in counts.items()}


def _view(
    content: bytes, whole: Tensor, transform: TrainTransform, variant: Variant, seed: int
) -> Tensor:
    size = (whole.shape[1], whole.shape[2])
    if variant.cached:
        pixels = shortened(whole, CACHE_SIDE)
    elif transform.decodes_fast:
        pixels = decode_fast(content, lambda *size: transform.divisor(seed, *size)).pixels
    else:
        pixels = whole
    seed_everything(seed)
    return transform.apply(pixels, transform.draw(size))


def _difference(counts: npt.NDArray[np.int64]) -> Difference:
    levels = np.arange(LEVELS)
    shares = counts / counts.sum()
    percentile = int(np.searchsorted(shares.cumsum(), 0.99))
    return Difference(float((shares * levels).sum()), percentile)
