"""Ways of making training views, how fast each is here, and which keeps the devices busy."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from antioversmooth.config import FAST, Experiment
from antioversmooth.datasets.decoded import DecodedCache
from antioversmooth.datasets.images import EncodedImages, Images
from antioversmooth.finding import Finding, Place
from antioversmooth.training.data.augmentation import train_transform
from antioversmooth.training.data.caching import make_parts
from antioversmooth.training.data.loading import ViewDataset
from antioversmooth.training.data.sampling import View
from antioversmooth.training.probes.context import ok

IMAGES = 32
"""Images of a data set that each way is measured with."""
CACHE_SIDE = 256
"""Short side of cached images, where a spec names none."""
EXACT, FAST_POLICY = "exact policy", "fast policy"
CACHE, FAST_CACHE = "decoded cache", "decoded cache, fast policy"
SETTINGS = {
    EXACT: "recipe.policy=exact",
    FAST_POLICY: "recipe.policy=fast",
    CACHE: "data.cache=256",
    FAST_CACHE: "data.cache=256 recipe.policy=fast",
}
"""The ways, those first whose pixels are nearest to timm's, and what asks for each."""
Rates = Mapping[str, float]
"""Views that one core makes in a second, by the way."""


def rates(config: Experiment, images: EncodedImages, seconds: float) -> Rates:
    """The rate of each way, measured in this process.

    Args:
        seconds: For each measurement; one pass over the images is made in any case.

    Raises:
        OSError: No folder for temporary files takes some megabytes.
        DataError: The images cannot be read.
    """
    sample = _Sample(images)
    side = config.data.cache or CACHE_SIDE
    with tempfile.TemporaryDirectory() as folder:
        cache = DecodedCache(Path(folder), sample)
        list(make_parts(cache, cache.parts, side=side, processes=0))
        decoded = cache.open()
        return {
            way: _rate(
                replace(config, recipe=replace(config.recipe, policy=policy)), source, seconds
            )
            for way, policy, source in (
                (EXACT, "exact", sample),
                (FAST_POLICY, FAST, sample),
                (CACHE, "exact", decoded),
                (FAST_CACHE, FAST, decoded),
            )
        }


def _rate(config: Experiment, images: Images, seconds: float) -> float:
    transform = train_transform(config.recipe, config.data, config.model.image_size)
    views = ViewDataset(images, transform, seed=0)
    repeats = config.recipe.repeated_augmentation
    wanted = [View(number, number // repeats) for number in range(repeats * len(views))]
    passes, began = 0, time.perf_counter()
    while not passes or time.perf_counter() - began < seconds:
        views.__getitems__(wanted)
        passes += 1
    return passes * len(wanted) / (time.perf_counter() - began)


@dataclass(frozen=True)
class _Sample:
    """Some images of a data set, evenly spaced."""

    images: EncodedImages

    def _place(self, index: int) -> int:
        return index * len(self.images.labels) // len(self.labels)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        return self.images.labels[:IMAGES]

    def read(self, index: int) -> bytes:
        return self.images.read(self._place(index))

    def name(self, index: int) -> str:
        return self.images.name(self._place(index))


def describe(
    measured: Sequence[Rates], *, images_per_s: float, devices: int, workers: int
) -> Iterator[Finding]:
    """Two findings: what each way needs, and the first one that keeps the devices busy.

    Args:
        measured: Of each rank.
        images_per_s: Of the steps of a device.
        workers: Loading processes of a device.
    """
    slowest = {way: min(of[way] for of in measured) for way in SETTINGS}
    needed = devices * images_per_s
    there = devices * max(1, workers)
    cores = {way: needed / rate for way, rate in slowest.items()}
    each = "; ".join(f"{way} {slowest[way]:,.0f}, {cores[way]:.1f} cores" for way in SETTINGS)
    text = f"views/s a core, and cores for {devices} x {images_per_s:,.0f} images/s: {each}"
    yield ok("ways of input", text, Place.model, views_per_s_per_core=slowest)
    yield ok("input that pays", _advice(cores, needed, there), Place.model, cores=cores)


def _advice(cores: Mapping[str, float], needed: float, there: int) -> str:
    for way, setting in SETTINGS.items():
        if cores[way] <= there:
            why = "no other is needed" if way == EXACT else "those before it are too slow"
            return f"{way} ({setting}) on the {there} cores that load: {why}"
    best = min(cores, key=lambda way: cores[way])
    reached = needed * there / cores[best]
    return (
        f"none keeps the devices busy on the {there} cores that load; {best} ({SETTINGS[best]})"
        f" comes nearest, with {reached:,.0f} of {needed:,.0f} images/s"
    )
