"""Batches of views: made by worker processes, or indexed where all views are in memory.

Shapes: B images, C channels, S pixels along a side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from multiprocessing.connection import Connection
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from antioversmooth.config import Experiment
from antioversmooth.datasets.images import ArrayImages, Images
from antioversmooth.errors import DataError
from antioversmooth.runs import machine
from antioversmooth.training.data import augmentation
from antioversmooth.training.data.augmentation import TrainTransform, Transform
from antioversmooth.training.data.decoding import Picture, open_fast, open_image
from antioversmooth.training.data.memory import reuse_memory
from antioversmooth.training.data.sampling import MicroBatches, View
from antioversmooth.training.data.workers import NOT_OF_AN_IMAGE, start_worker
from antioversmooth.training.randomness import seed_everything, seed_for

MAX_UNREADABLE_IN_A_ROW = 100
"""Images that are tried in place of an unreadable one; if all fail, the file system is gone."""
TOGETHER, TOGETHER_BYTES = 64, 2**25
"""Most views whose images are in memory at a time, and bytes of these after which none is added."""
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


class _Opened(NamedTuple):
    wanted: int
    """Index of the image that was asked for."""
    picture: Picture
    divisor: int
    """By which its decoder could divide it."""
    label: int
    corrupt: int
    """As of `Batch`."""


class ViewDataset(Dataset[tuple[Tensor, int, int]]):
    """Transformed views of images, each seeded by its own number: any process may make it."""

    def __init__(self, images: Images, transform: Transform, seed: int) -> None:
        self.images = images
        self.transform = transform
        self._fast: TrainTransform | None = None
        if isinstance(transform, TrainTransform) and transform.decodes_fast:
            self._fast = transform
        self.seed = seed
        self._last: _Opened | None = None

    def __len__(self) -> int:
        return len(self.images.labels)

    def __getitem__(self, view: View) -> tuple[Tensor, int, int]:
        (made,) = self.__getitems__([view])
        return made

    def __getitems__(self, views: Sequence[View]) -> list[tuple[Tensor, int, int]]:
        """Several views; each image is decoded once for all of its views.

        Some are opened, then drawn, then made: code that runs again soon runs faster.
        """
        made = {}
        for chunk in self._opened(sorted(views, key=lambda view: view.image)):
            for (view, opened), pixels in zip(chunk, self._transformed(chunk), strict=True):
                made[view.number] = pixels, opened.label, opened.corrupt
        return [made[view.number] for view in views]

    def _opened(self, views: Sequence[View]) -> Iterator[list[tuple[View, _Opened]]]:
        """The views with their images, `TOGETHER` at a time, or fewer where these are large."""
        chunk: list[tuple[View, _Opened]] = []
        size = 0
        for view in views:
            chunk.append((view, self._open(view)))
            size += chunk[-1][1].picture.pixels.numel()
            if len(chunk) == TOGETHER or size > TOGETHER_BYTES:
                yield chunk
                chunk, size = [], 0
        if chunk:
            yield chunk

    def _transformed(self, chunk: Sequence[tuple[View, _Opened]]) -> list[Tensor]:
        transform = self.transform
        if not isinstance(transform, TrainTransform):
            return [transform(opened.picture.pixels) for _, opened in chunk]
        drawn = []
        for view, opened in chunk:
            seed_everything(self._seed(view))
            drawn.append(transform.draw(opened.picture.whole))
        return [
            transform.apply(opened.picture.pixels, draws)
            for (_, opened), draws in zip(chunk, drawn, strict=True)
        ]

    def _seed(self, view: View) -> int:
        return seed_for(self.seed, "view", view.number)

    def _open(self, view: View) -> _Opened:
        """The image of a view; cached, since views of an image are made in a row."""
        last, seed = self._last, self._seed(view)
        is_same = last is not None and last.wanted == view.image
        if last is None or not is_same or last.divisor != self._divisor(seed, last.picture):
            self._last = last = self._read(view.image, seed)
        return last

    def _read(self, index: int, seed: int) -> _Opened:
        after, before = range(index + 1, len(self)), range(index - 1, -1, -1)
        for neighbour in islice(chain([index], after, before), MAX_UNREADABLE_IN_A_ROW):
            try:
                picture = self._picture(neighbour, seed)
            except OSError as err:
                if err.errno in NOT_OF_AN_IMAGE:
                    raise
                latest = err
                continue
            corrupt = OK if neighbour == index else index
            label = int(self.images.labels[neighbour])
            return _Opened(index, picture, self._divisor(seed, picture), label, corrupt)
        name = self.images.name(index)
        raise DataError(
            f"neither {name} nor the images beside it can be read ({latest}); is the data still"
            " there?"
        )

    def _picture(self, index: int, seed: int) -> Picture:
        if self._fast is None:
            return Picture(open_image(self.images, index))
        return open_fast(self.images, index, partial(self._fast.divisor, seed))

    def _divisor(self, seed: int, picture: Picture) -> int:
        """By which a view's image may be divided."""
        if self._fast is None or picture.size is None:
            return 1
        return self._fast.divisor(seed, *picture.size)


class Loaders:
    """Makes the batches of a run.

    Args:
        cpus: CPUs of this process, for itself and its workers.
        processes: Processes of the run on this machine.
        failures: Where workers write why they fail; see `loading_failures`.
    """

    def __init__(
        self,
        config: Experiment,
        *,
        seed: int,
        cpus: int = 1,
        processes: int = 1,
        failures: Connection | None = None,
    ) -> None:
        self.data, self.recipe, self.runtime = config.data, config.recipe, config.runtime
        self.image_size = config.model.image_size
        self.seed = seed
        self.cpus, self.processes, self.failures = cpus, processes, failures
        self._needed: dict[bool, tuple[int, int]] = {}
        """Workers, and bytes of shared memory, for evaluation and for training."""

    def training(self, images: Images, micro_batches: MicroBatches) -> Iterator[Batch]:
        """The batch of each micro-batch, in order; ends after the last."""
        transform = augmentation.train_transform(self.recipe, self.data, self.image_size)
        fixed = not augmentation.is_random(self.recipe)
        return iter(self._batches(images, transform, micro_batches, fixed=fixed))

    def evaluation(self, images: Images, *, rank: int = 0, world_size: int = 1) -> Iterable[Batch]:
        """This rank's share of a split, disjoint from the others'; can be iterated repeatedly."""
        return self._evaluation(images, range(rank, len(images.labels), world_size))

    def sample(self, images: Images, count: int) -> Iterable[Batch]:
        """At most `count` images of a split, as for evaluation, evenly spaced in their order.

        The first ones of an image folder, or of a file that is sorted, are of a few classes only.
        """
        total = len(images.labels)
        number = min(count, total)
        return self._evaluation(images, [place * total // number for place in range(number)])

    def _evaluation(self, images: Images, indices: Sequence[int]) -> Iterable[Batch]:
        share = [View(i, i) for i in indices]
        size = self.runtime.eval_batch
        chunks = [share[start : start + size] for start in range(0, len(share), size)]
        transform = augmentation.eval_transform(self.recipe, self.data, self.image_size)
        return self._batches(images, transform, chunks, fixed=True)

    def _batches(
        self,
        images: Images,
        transform: Transform,
        batches: MicroBatches | list[list[View]],
        *,
        fixed: bool,
    ) -> Iterable[Batch]:
        views = ViewDataset(images, transform, self.seed)
        in_memory = isinstance(images, ArrayImages)
        if in_memory and fixed and self.image_size <= machine.MAX_SIDE_IN_MEMORY:
            return FixedBatches(views, batches)
        workers = machine.loading_processes(
            self.runtime.workers, self.cpus, self.image_size, in_memory=in_memory
        )
        if not workers and not in_memory:
            reuse_memory()
        if workers and len(batches):
            self._check_machine(workers, batches)
        return DataLoader(
            views,
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=_collate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0,
            prefetch_factor=machine.BATCHES_AHEAD if workers else None,
            worker_init_fn=partial(start_worker, self.failures),
        )

    def _check_machine(self, workers: int, batches: MicroBatches | list[list[View]]) -> None:
        """Raises LaunchError if training and evaluation need more than this machine has.

        Each is asked once: later, what is free is without what this process has in use.
        """
        training = isinstance(batches, MicroBatches)
        if training in self._needed:
            return
        views = batches.size if isinstance(batches, MicroBatches) else len(batches[0])
        shared = machine.shared_bytes(
            self.data, self.image_size, views, workers=workers, batches=len(batches)
        )
        self._needed[training] = workers, shared
        all_workers, all_shared = map(sum, zip(*self._needed.values(), strict=True))
        machine.check_shared_memory(all_shared * self.processes, workers)
        machine.raise_open_files(all_workers)


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
    # Views are [S, S, C] in memory. The device puts the channels first, in less time than a CPU.
    # In a loading process torch's collation writes into the memory that is shared with training: a
    # copy less, and no hole in the heap, which torch's records of 128 shared tensors would pin.
    together = default_collate([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)
    return Batch(together, torch.tensor(labels), torch.tensor(corrupt))
