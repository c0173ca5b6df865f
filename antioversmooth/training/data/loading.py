"""From views to batches of bytes: by worker processes where images are decoded, by indexing where
they lie in memory.

Shapes: B images, C channels, S pixels along a side.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from antioversmooth.config import DataConfig, RecipeConfig, RuntimeConfig
from antioversmooth.errors import DataError
from antioversmooth.training.data.augmentation import (
    Transform,
    eval_transform,
    train_transform,
    varies,
)
from antioversmooth.training.data.images import Images
from antioversmooth.training.data.sampling import Blocks, View
from antioversmooth.training.randomness import seed_everything, seed_for

SMALL = 64
"""Pixels along a side up to which images in memory stay there as views, and need no loading
processes."""
PATIENCE = 100
"""Images in a row that are tried before all of them count as lost: a file system that has gone has
no readable one."""
WHOLE = -1
"""In `Batch.corrupt`: the image could be read."""


class Batch(NamedTuple):
    """What a loader gives."""

    images: Tensor
    """[B, C, S, S] uint8."""
    labels: Tensor
    """[B] int64."""
    corrupt: Tensor
    """[B] int64: index of the image that could not be read and was replaced by its neighbour, else
    WHOLE."""


class Views(Dataset[tuple[Tensor, int, int]]):
    """Transformed looks at images; each seeded by its own number, so that it does not matter who
    makes it."""

    def __init__(self, images: Images, transform: Transform, seed: int) -> None:
        self.images = images
        self.transform = transform
        self.seed = seed
        self._opened: tuple[int, tuple[Tensor, int, int]] | None = None

    def __len__(self) -> int:
        return len(self.images.labels)

    def __getitem__(self, view: View) -> tuple[Tensor, int, int]:
        image, label, corrupt = self._open(view.image)
        seed_everything(seed_for(self.seed, "view", view.number))
        return self.transform(image), label, corrupt

    def _open(self, index: int) -> tuple[Tensor, int, int]:
        """Image, label, and corrupt index; remembered, since repeated views of an image stand next
        to each other."""
        if self._opened is None or self._opened[0] != index:
            self._opened = index, self._read(index)
        return self._opened[1]

    def _read(self, index: int) -> tuple[Tensor, int, int]:
        after, before = range(index + 1, len(self)), range(index - 1, -1, -1)
        for neighbour in islice(chain([index], after, before), PATIENCE):
            try:
                image = self.images.open(neighbour)
            except OSError as err:
                latest = err
                continue
            corrupt = WHOLE if neighbour == index else index
            return image, int(self.images.labels[neighbour]), corrupt
        name = self.images.name(index)
        raise DataError(
            f"neither {name} nor the images beside it can be read ({latest}); is the data still"
            " there?"
        )


class Loaders:
    """Makes the batches of a run.

    Args:
        cpus: That this process may use, itself and its loading processes.
    """

    def __init__(
        self,
        data: DataConfig,
        recipe: RecipeConfig,
        runtime: RuntimeConfig,
        *,
        image_size: int,
        seed: int,
        cpus: int = 1,
    ) -> None:
        self.data = data
        self.recipe = recipe
        self.runtime = runtime
        self.image_size = image_size
        self.seed = seed
        self.cpus = cpus

    def training(self, images: Images, blocks: Blocks) -> Iterator[Batch]:
        """The batches of all blocks, in order; ends after the last."""
        transform = train_transform(self.recipe, self.data, self.image_size)
        return iter(self._batches(images, transform, blocks, fixed=not varies(self.recipe)))

    def evaluation(self, images: Images, *, rank: int = 0, world_size: int = 1) -> Iterable[Batch]:
        """This rank's share of a split, each image in exactly one rank's; can be iterated again and
        again."""
        share = [View(i, i) for i in range(rank, len(images.labels), world_size)]
        size = self.runtime.eval_batch
        chunks = [share[start : start + size] for start in range(0, len(share), size)]
        return self._batches(
            images, eval_transform(self.recipe, self.data, self.image_size), chunks, fixed=True
        )

    def _batches(
        self, images: Images, transform: Transform, blocks: Iterable[list[View]], *, fixed: bool
    ) -> Iterable[Batch]:
        views = Views(images, transform, self.seed)
        small = images.in_memory and self.image_size <= SMALL
        if small and fixed:
            return FixedBatches(views, blocks)
        # The CPUs given, less one for this process; of small images in memory a view is made faster
        # than handed over.
        workers = (
            self.runtime.workers if self.runtime.workers >= 0 else 0 if small else self.cpus - 1
        )
        return DataLoader(
            views,
            batch_sampler=blocks,
            num_workers=workers,
            collate_fn=_collate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0,
            worker_init_fn=_start_worker,
        )


class FixedBatches:
    """Batches of images whose views never differ: transformed once, then only indexed."""

    def __init__(self, views: Views, blocks: Iterable[list[View]]) -> None:
        self.blocks = blocks
        self.all = _collate([views[View(i, i)] for i in range(len(views))])

    def __iter__(self) -> Iterator[Batch]:
        for block in self.blocks:
            chosen = torch.tensor([view.image for view in block])
            yield Batch(*(part[chosen] for part in self.all))


def _collate(items: Sequence[tuple[Tensor, int, int]]) -> Batch:
    images, labels, corrupt = zip(*items, strict=True)
    return Batch(torch.stack(images), torch.tensor(labels), torch.tensor(corrupt))


def _start_worker(_: int) -> None:
    """Leaves signals to the main process, which stops its workers itself; a scheduler may send them
    to all."""
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
