"""Random erasing (https://arxiv.org/abs/1708.04896), with the distribution of timm's RandomErasing.

timm draws and erases image by image. Here the rectangles of a batch are drawn together, each image
by the number of its view, and painted together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from antioversmooth.config import RecipeConfig
from antioversmooth.training.data.boxes import inside
from antioversmooth.training.randomness import generator_on, rows_by_group, seed_for, uniform

MIN_AREA, MAX_AREA = 0.02, 1 / 3
"""Range of the area that an image loses, as a share."""
MAX_RATIO = 1 / 0.3
"""Largest height over width, and largest width over height, of a rectangle."""
TRIES = 10
"""Draws of a rectangle; it is left out if it is larger than the image in all of them."""


class Erasing:
    """Erases rectangles of normalised images."""

    def __init__(self, recipe: RecipeConfig, *, seed: int) -> None:
        self.seed = seed
        self.probability = recipe.random_erasing
        self.mode, self.count = recipe.erasing_mode, recipe.erasing_count
        self.group = max(1, recipe.mix_group)

    def __call__(self, images: Tensor, first_view: int) -> Tensor:
        """The images [B, C, S, S], with rectangles erased.

        Args:
            first_view: Number of the first image's view; the others follow.
        """
        side = images.shape[-1]
        views = range(first_view, first_view + len(images))
        drawn = torch.from_numpy(np.stack(self.rectangles(views, side), -1))
        low, high = drawn.to(images.device, non_blocking=True).unbind(-1)
        for number, content in enumerate(self._contents(images, first_view)):
            erased = inside(low[:, number], high[:, number], side)
            images = torch.where(erased, content, images)
        return images

    def rectangles(
        self, views: Sequence[int], side: int
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """First row and column of each rectangle, and the ones behind its last; both
        [views, count, 2]. They are equal where there is none."""
        shape = (len(views), self.count)
        columns = 2 + self.count * 2 * (TRIES + 1)
        draws = uniform(self.seed, "erase", views, columns)
        number = 1 + (draws[:, 1:2] * self.count).astype(int)
        places, tries = np.split(draws[:, 2:], [2 * self.count], axis=1)
        sides, fits = _sides(tries.reshape(*shape, TRIES, 2), number, side)
        drawn = (draws[:, :1] < self.probability) & (np.arange(self.count) < number) & fits
        sides = sides * drawn[..., None]
        low = np.floor(places.reshape(*shape, 2) * (side - sides + 1))
        return low.astype(np.int32), (low + sides).astype(np.int32)

    def _contents(self, images: Tensor, first_view: int) -> Sequence[Tensor]:
        """The content of each rectangle, broadcastable to the images."""
        if self.mode == "const":
            return [images.new_zeros(())] * self.count
        number, channels, side, _ = images.shape
        per_image = (channels, side, side) if self.mode == "pixel" else (self.count, channels, 1, 1)
        normal = images.new_empty(number, *per_image)
        generator = generator_on(images.device)

        def fill(group: int, part: Tensor) -> None:
            generator.manual_seed(seed_for(self.seed, "erase", group))
            part.normal_(generator=generator)

        rows_by_group(first_view, normal, self.group, fill)
        return [normal] * self.count if self.mode == "pixel" else normal.unbind(1)


def _sides(
    tries: npt.NDArray[np.float64], number: npt.NDArray[np.int64], side: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Height and width of each rectangle, by its first try that fits into the image.

    Args:
        tries: Numbers from [0, 1), [views, count, TRIES, 2].
        number: Rectangles of each view, which share the area; [views, 1].

    Returns:
        [views, count, 2], and whether there is such a try, [views, count].
    """
    area = (MIN_AREA + tries[..., 0] * (MAX_AREA - MIN_AREA)) * (side**2 / number[..., None])
    root = np.exp((tries[..., 1] - 0.5) * math.log(MAX_RATIO))
    length = np.sqrt(area)
    sides = np.rint(np.stack([length * root, length / root], -1))
    fitting = (sides < side).all(-1)
    first = fitting.argmax(-1)[..., None, None]
    return np.take_along_axis(sides, first, 2)[:, :, 0], fitting.any(-1)
