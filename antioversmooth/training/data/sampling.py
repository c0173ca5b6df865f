"""Which image stands where: the order of an epoch, and how a global batch is dealt to devices and
passes.

view    one augmented look at an image; views are numbered through the whole run, in the order of training
batch   global_batch consecutive views: what one optimizer step learns from
block   consecutive views of a batch that go through the model together: one pass on one device
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from antioversmooth.training.randomness import seed_for


class View(NamedTuple):
    """One augmented look at an image."""

    number: int
    """Position in the order of the whole run; what its augmentation is seeded by."""
    image: int
    """Index into the training set."""


class SampleOrder:
    """The order in which a run sees its images: a function of the seed and the epoch only.

    Args:
        num_images: Size of the training set; also the number of views in an epoch, before its last,
            partial batch is dropped.
        global_batch: Views per optimizer step.
        seed: The run's seed.
        repeats: Views of each drawn image, next to each other (repeated augmentation, as DeiT's
            RASampler).
    """

    def __init__(self, num_images: int, global_batch: int, *, seed: int, repeats: int = 1) -> None:
        self.num_images = num_images
        self.global_batch = global_batch
        self.seed = seed
        self.repeats = repeats
        self._epoch = -1
        self._images: npt.NDArray[np.int64] = np.empty(0, np.int64)

    @property
    def steps_per_epoch(self) -> int:
        return self.num_images // self.global_batch

    def images(self, epoch: int) -> npt.NDArray[np.int64]:
        """Image of each view of an epoch. Shape: [num_images]."""
        if epoch != self._epoch:
            drawn = np.random.default_rng(seed_for(self.seed, "order", epoch)).permutation(
                self.num_images
            )
            self._images = np.repeat(drawn, self.repeats)[: self.num_images]
            self._epoch = epoch
        return self._images

    def views(self, step: int, start: int = 0, count: int | None = None) -> list[View]:
        """`count` views of a step's batch from `start` on; all of them by default."""
        count = self.global_batch - start if count is None else count
        epoch, step_of_epoch = divmod(step, self.steps_per_epoch)
        position = step_of_epoch * self.global_batch + start
        number = step * self.global_batch + start
        images = self.images(epoch)[position : position + count]
        return [View(number + i, int(image)) for i, image in enumerate(images)]


@dataclass(frozen=True)
class Blocks:
    """The blocks of one rank, from one step to another; iterating starts over.

    Block j of a batch goes to rank j // passes: the ranks hold consecutive parts of it, whatever
    their number.
    """

    order: SampleOrder
    size: int
    """Views per block."""
    passes: int
    """Blocks per step on this rank."""
    rank: int
    start_step: int
    stop_step: int

    def __iter__(self) -> Iterator[list[View]]:
        for step in range(self.start_step, self.stop_step):
            for index in range(self.passes):
                yield self.order.views(step, self.number(index) * self.size, self.size)

    def number(self, index: int) -> int:
        """Number within the global batch of this rank's `index`-th block."""
        return self.rank * self.passes + index
