"""The order of the images in an epoch, and the parts of a global batch that each rank computes.

view           one augmented version of an image; numbered through the whole run, in training order
global batch   consecutive views that one optimizer step learns from
micro-batch    consecutive views of a global batch that one device computes in one forward pass
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from antioversmooth.config import Experiment, RepeatedViews
from antioversmooth.runs import deal
from antioversmooth.training.randomness import seed_for


class View(NamedTuple):
    """One augmented version of an image."""

    number: int
    """Position in the order of the whole run, which seeds its augmentation."""
    image: int
    """Index into the training set."""


class SampleOrder:
    """The order in which a run sees its images: a function of the seed and the epoch only.

    Args:
        num_images: Size of the training set; also the number of views in an epoch, before its last,
            partial batch is dropped.
        global_batch: Views per optimizer step.
        group: Consecutive views that are mixed among themselves; it divides the batch. None: the
            largest that leaves a group for each view of an image.
        repeats: Views of each drawn image (repeated augmentation, as DeiT's RASampler), in
            different groups where a batch has as many. Those of an image are dealt to groups next
            to each other, since one process decodes it once for all views that it makes.
    """

    def __init__(
        self,
        num_images: int,
        global_batch: int,
        *,
        seed: int,
        group: int | None = None,
        repeats: int = 1,
    ) -> None:
        self.num_images = num_images
        self.global_batch = global_batch
        self.seed = seed
        self.repeats = repeats
        self.group = group or global_batch // _divisor_from(repeats, global_batch)
        self.dealt_to = _divisor_from(repeats, global_batch // self.group)
        """Groups that consecutive views are dealt to in turn, as the released code's sampler deals
        them to devices."""
        self._epoch = -1
        self._images: npt.NDArray[np.int64] = np.empty(0, np.int64)

    @classmethod
    def of(cls, config: Experiment, *, seed: int) -> SampleOrder:
        """The order of a run."""
        recipe = config.recipe
        apart = recipe.mixes and recipe.repeated_views is RepeatedViews.apart
        return cls(
            config.data.num_train,
            recipe.global_batch,
            seed=seed,
            group=recipe.mix_group if apart else 1,
            repeats=recipe.repeated_augmentation,
        )

    @property
    def steps_per_epoch(self) -> int:
        return self.num_images // self.global_batch

    def images(self, epoch: int) -> npt.NDArray[np.int64]:
        """Image of each view of an epoch. Shape: [steps_per_epoch * global_batch]."""
        if epoch != self._epoch:
            generator = np.random.default_rng(seed_for(self.seed, "order", epoch))
            drawn = generator.permutation(self.num_images)
            repeated = np.repeat(drawn, self.repeats)[: self.steps_per_epoch * self.global_batch]
            dealt = repeated.reshape(-1, self.group, self.dealt_to)
            self._images = dealt.swapaxes(1, 2).reshape(-1)
            self._epoch = epoch
        return self._images

    def views(self, step: int, start: int = 0, count: int | None = None) -> list[View]:
        """`count` views of a step's global batch, from `start` on; by default all of them."""
        count = self.global_batch - start if count is None else count
        epoch, step_of_epoch = divmod(step, self.steps_per_epoch)
        position = step_of_epoch * self.global_batch + start
        number = step * self.global_batch + start
        images = self.images(epoch)[position : position + count]
        return [View(number + i, int(image)) for i, image in enumerate(images)]


def _divisor_from(lowest: int, number: int) -> int:
    """The smallest divisor of a number that is not below another; the number if none is."""
    return next((n for n in range(lowest, number) if number % n == 0), number)


@dataclass(frozen=True)
class MicroBatches:
    """The micro-batches of one rank, from one step to another; iterating starts over.

    Micro-batch j of a global batch belongs to rank j // accumulation_steps: each rank computes a
    consecutive part of the batch, whatever the number of ranks.
    """

    order: SampleOrder
    size: int
    """Views per micro-batch."""
    accumulation_steps: int
    """Micro-batches per optimizer step on this rank."""
    rank: int
    start_step: int
    stop_step: int

    @classmethod
    def of(
        cls, config: Experiment, *, seed: int, rank: int, world_size: int, start_step: int = 0
    ) -> MicroBatches:
        """Those of a rank of a run, from a step to the last.

        Raises:
            SpecError: The global batch does not divide over the ranks.
        """
        size, accumulation_steps = deal(config, world_size)
        order = SampleOrder.of(config, seed=seed)
        return cls(order, size, accumulation_steps, rank, start_step, config.total_steps)

    def __len__(self) -> int:
        return (self.stop_step - self.start_step) * self.accumulation_steps

    def __iter__(self) -> Iterator[list[View]]:
        for step in range(self.start_step, self.stop_step):
            for index in range(self.accumulation_steps):
                yield self.order.views(step, self.offset(index), self.size)

    def offset(self, index: int) -> int:
        """Position within the global batch of the first view of this rank's micro-batch `index`."""
        return (self.rank * self.accumulation_steps + index) * self.size
