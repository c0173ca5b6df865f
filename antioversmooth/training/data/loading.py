"""Batches of views: made by worker processes, or indexed where all views are in memory.

Shapes: B images, C channels, S pixels along a side.
"""

from __future__ import annotations

import signal
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from antioversmooth.config import Experiment
from antioversmooth.datasets.images import ArrayImages, Images
from antioversmooth.errors import DataError
from antioversmooth.training.data import augmentation
from antioversmooth.training.data.augmentation import Transform
from antioversmooth.training.data.decoding import open_image
from antioversmooth.training.data.sampling import MicroBatches, View
from antioversmooth.training.randomness import seed_everything, seed_for

MAX_SIDE_IN_MEMORY = 64
"""Largest side in pixels at which views of in-memory images need no worker processes."""
MAX_UNREADABLE_IN_A_ROW = 100
"""Images that are tried in place of an unreadable one; if all fail, the file system is gone."""
OK = -1
"""In `Batch.corrupt`: the image could be read."""


class Batch(NamedTuple):
    """One batch of a loader."""

    images: Tensor
    """[B, C, S, S] uint8."""
    labels: Tensor
    """[B] int64."""
    corrupt: Tensor
    """[B] int64: index of the unreadable image that a neighbour replaces here, else OK."""


class ViewDataset(Dataset[tuple[Tensor, int, int]]):
    """Transformed views of images, each seeded by its own number: any process may make it."""

    def __init__(self, images: Images, transform: Transform, seed: int) -> None:
        self.images = images
        self.transform = transform
        self.seed = seed
        self._last: tuple[int, tuple[Tensor, int, int]] | None = None

    def __len__(self) -> int:
        return len(self.images.labels)

    def __getitem__(self, view: View) -> tuple[Tensor, int, int]:
        image, label, corrupt = self._open(view.image)
        seed_everything(seed_for(self.seed, "view", view.number))
        return self.transform(image), label, corrupt

    def __getitems__(self, views: Sequence[View]) -> list[tuple[Tensor, int, int]]:
        """Several views; each image is decoded once for all of its views."""
        by_image = sorted(views, key=lambda view: view.image)
        made = {view.number: self[view] for view in by_image}
        return [made[view.number] for view in views]

    def _open(self, index: int) -> tuple[Tensor, int, int]:
        """Image, label and `Batch.corrupt`; cached, since views of an image are made in a row."""
        if self._last is None or self._last[0] != index:
            self._last = index, self._read(index)
        return self._last[1]

    def _read(self, index: int) -> tuple[Tensor, int, int]:
        after, before = range(index + 1, len(self)), range(index - 1, -1, -1)
        for neighbour in islice(chain([index], after, before), MAX_UNREADABLE_IN_A_ROW):
            try:
                image = open_image(self.images, neighbour)
            except OSError as err:
                latest = err
                continue
            corrupt = OK if neighbour == index else index
            return image, int(self.images.labels[neighbour]), corrupt
        name = self.images.name(index)
        raise DataError(
            f"neither {name} nor the images beside it can be read ({latest}); is the data still"
            " there?"
        )


def check_unreadable(names: Collection[str], max_corrupt: int) -> None:
    """Raises DataError if more images than `data.max_corrupt` could not be read."""
    if len(names) > max_corrupt:
        raise DataError(
            f"{len(names)} image(s) cannot be read, data.max_corrupt allows {max_corrupt}:"
            f" {', '.join(sorted(names)[:5])}; restore them, or raise data.max_corrupt"
        )


class Loaders:
    """Makes the batches of a run.

    Args:
        cpus: CPUs of this process, for itself and its workers.
    """

    def __init__(self, config: Experiment, *, seed: int, cpus: int = 1) -> None:
        self.data, self.recipe, self.runtime = config.data, config.recipe, config.runtime
        self.image_size = config.model.image_size
        self.seed = seed
        self.cpus = cpus

    def training(self, images: Images, micro_batches: MicroBatches) -> Iterator[Batch]:
        """The batch of each micro-batch, in order; ends after the last."""
        transform = augmentation.train_transform(self.recipe, self.data, self.image_size)
        fixed = not augmentation.is_random(self.recipe)
        return iter(self._batches(images, transform, micro_batches, fixed=fixed))

    def evaluation(self, images: Images, *, rank: int = 0, world_size: int = 1) -> Iterable[Batch]:
        """This rank's share of a split, disjoint from the others'; can be iterated repeatedly."""
        share = [View(i, i) for i in range(rank, len(images.labels), world_size)]
        size = self.runtime.eval_batch
        chunks = [share[start : start + size] for start in range(0, len(share), size)]
        transform = augmentation.eval_transform(self.recipe, self.data, self.image_size)
        return self._batches(images, transform, chunks, fixed=True)

    def _batches(
        self, images: Images, transform: Transform, batches: Iterable[list[View]], *, fixed: bool
    ) -> Iterable[Batch]:
        views = ViewDataset(images, transform, self.seed)
        in_memory = isinstance(images, ArrayImages) and self.image_size <= MAX_SIDE_IN_MEMORY
        if in_memory and fixed:
            return FixedBatches(views, batches)
        # One CPU is for this process. A small view of an image in memory is made faster than it is
        # passed between processes.
        automatic = 0 if in_memory else self.cpus - 1
        workers = self.runtime.workers if self.runtime.workers >= 0 else automatic
        return DataLoader(
            views,
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=_collate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0,
            worker_init_fn=_start_worker,
        )


class FixedBatches:
    """Batches of images whose views never differ: all are transformed once, then indexed."""

    def __init__(self, views: ViewDataset, batches: Iterable[list[View]]) -> None:
        self.batches = batches
        self.all = _collate([views[View(i, i)] for i in range(len(views))])

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.batches:
            indices = torch.tensor([view.image for view in batch])
            yield Batch(*(part[indices] for part in self.all))


def _collate(items: Sequence[tuple[Tensor, int, int]]) -> Batch:
    images, labels, corrupt = zip(*items, strict=True)
    return Batch(torch.stack(images), torch.tensor(labels), torch.tensor(corrupt))


def _start_worker(_: int) -> None:
    """Ignores signals, which schedulers send to all processes: its parent stops a worker."""
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
