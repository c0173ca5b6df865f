"""Random erasing (https://arxiv.org/abs/1708.04896), with the distribution of timm's RandomErasing.

timm draws and erases image by image. Here the rectangles of a batch are drawn together on the host,
each image by the number of its view. The device draws noise for their pixels alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from antioversmooth.config import RecipeConfig
from antioversmooth.training.randomness import generator_on, seed_for, uniform

MIN_AREA, MAX_AREA = 0.02, 1 / 3
"""Range of the area that an image loses, as a share."""
MAX_RATIO = 1 / 0.3
"""Largest height over width, and largest width over height, of a rectangle."""
TRIES = 10
"""Draws of a rectangle; it is left out if it is larger than the image in all of them."""


class Rectangle(NamedTuple):
    """Pixels of a view that are erased."""

    view: int
    """Number of the view."""
    rows: slice
    columns: slice

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


class Erasing:
    """Erases rectangles of normalised images."""

    def __init__(self, recipe: RecipeConfig, *, seed: int) -> None:
        self.seed = seed
        self.probability = recipe.random_erasing
        self.mode, self.count = recipe.erasing_mode, recipe.erasing_count
        self.group = max(1, recipe.mix_group)

    def __call__(self, images: Tensor, first_view: int) -> Tensor:
        """The images [B, C, S, S], with rectangles erased in place.

        A group is drawn for as a whole, though images may have only a part of its views.

        Args:
            first_view: Number of the first image's view; the others follow.
        """
        behind = first_view + len(images)
        for group, rectangles in self._by_group(first_view, behind, images.shape[-1]).items():
            contents = self._contents(images, group, [found.size for found in rectangles])
            for (view, rows, columns), content in zip(rectangles, contents, strict=True):
                if first_view <= view < behind:
                    images[view - first_view, :, rows, columns] = content
        return images

    def _by_group(self, first_view: int, behind: int, side: int) -> dict[int, list[Rectangle]]:
        """The rectangles of each group that has some of these views, and has rectangles."""
        first = first_view // self.group * self.group
        views = range(first, -(-behind // self.group) * self.group)
        low, high = self.rectangles(views, side)
        found: dict[int, list[Rectangle]] = {}
        for place in np.argwhere((low < high).all(-1)):
            view = first + int(place[0])
            (top, left), (bottom, right) = low[*place].tolist(), high[*place].tolist()
            rectangle = Rectangle(view, slice(top, bottom), slice(left, right))
            found.setdefault(view // self.group, []).append(rectangle)
        return found

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

    def _contents(
        self, images: Tensor, group: int, sizes: Sequence[tuple[int, int]]
    ) -> Sequence[Tensor]:
        """The content of each rectangle of a group, broadcastable to [C, height, width]."""
        if self.mode == "const":
            return [images.new_zeros(())] * len(sizes)
        channels = images.shape[1]
        shapes = [(channels, *(size if self.mode == "pixel" else (1, 1))) for size in sizes]
        numbers = [math.prod(shape) for shape in shapes]
        generator = generator_on(images.device)
        generator.manual_seed(seed_for(self.seed, "erase", group))
        normal = images.new_empty(sum(numbers)).normal_(generator=generator)
        return [part.view(shape) for part, shape in zip(normal.split(numbers), shapes, strict=True)]


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
