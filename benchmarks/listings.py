"""Time to list a large data set, and to check that a listing is still valid."""

from __future__ import annotations

import os
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from antioversmooth.config import DataConfig, DataSource
from antioversmooth.datasets import cache
from antioversmooth.datasets.dataset import SPLITS, open_dataset
from benchmarks.timing import Times

LAYOUTS = {DataSource.image_folder: "image folder", DataSource.tar: "two tar files"}


@dataclass(frozen=True)
class ListingLoad:
    """Size of the data set: empty files, since no image is opened."""

    classes: int = 500
    train: int = 50
    """Images of each class."""
    val: int = 2
    """The same, for validation."""
    rounds: int = 3

    @property
    def images(self) -> int:
        return self.classes * (self.train + self.val)


LOAD, QUICK_LOAD = ListingLoad(), ListingLoad(classes=2, train=2, val=1, rounds=1)


def listing_times(load: ListingLoad) -> Times:
    """Seconds by the clock to list an image folder, and the same in tar files: first and again."""
    times: Times = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _fabricate(root, load)
        for source, layout in LAYOUTS.items():
            name = f"listing {load.images:,} images, {layout}"
            data = DataConfig(
                "bench",
                source,
                str(root / source.value),
                load.classes,
                load.classes * load.train,
                load.classes * load.val,
            )
            rounds = [_first_and_again(data) for _ in range(load.rounds)]
            times |= {f"{name}: first time": [first for first, _ in rounds]}
            times |= {f"{name}: afterwards": [again for _, again in rounds]}
    return times


def _first_and_again(data: DataConfig) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder, _cache_at(folder):
        return _seconds(data), _seconds(data)


def _seconds(data: DataConfig) -> float:
    start = time.perf_counter()
    open_dataset(data)
    return time.perf_counter() - start


@contextmanager
def _cache_at(folder: str) -> Iterator[None]:
    key = "ANTIOVERSMOOTH_CACHE"
    before = os.environ.get(key)
    os.environ[key] = folder
    try:
        yield
    finally:
        del os.environ[key]
        if before is not None:
            os.environ[key] = before


def _fabricate(root: Path, load: ListingLoad) -> None:
    """Writes `image_folder/<split>/<class>/*.jpg`, and `tar/<split>.tar` of the same."""
    folders, archives = (root / source.value for source in LAYOUTS)
    archives.mkdir()
    for split in SPLITS:
        # no listing is cached of paths that all changed within one tick of the clock
        time.sleep(0.05)
        with tarfile.open(archives / f"{split}.tar", "w") as archive:
            for label in range(load.classes):
                folder = folders / split / f"class{label:04d}"
                folder.mkdir(parents=True)
                for number in range(getattr(load, split)):
                    path = folder / f"image{number:04d}.jpg"
                    path.touch()
                    archive.addfile(tarfile.TarInfo(str(path.relative_to(folders / split))))
    # a listing of folders that have just changed is not cached
    time.sleep(1.5 * cache.SETTLED_S)
