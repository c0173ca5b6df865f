"""Mixup and CutMix over groups of fixed size, independent of how a batch is split over devices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from timm.data.mixup import Mixup, mixup_target, one_hot, rand_bbox, rand_bbox_minmax
from torch import Tensor

from antioversmooth.config import CutmixBox, RecipeConfig
from antioversmooth.methods.losses import PatchTargets
from antioversmooth.training.randomness import seed_for


class Draw(NamedTuple):
    """How an image is mixed with its partner."""

    own: float
    """Weight of its own pixels within the box; 1 outside."""
    partners: float
    """Weight of the partner's pixels within the box; 0 outside."""
    own_share: float
    """Of its target."""
    partners_share: float
    rows: slice
    """Of the box: all of the image in Mixup."""
    columns: slice


UNMIXED = Draw(1.0, 0.0, 1.0, 0.0, slice(0), slice(0))


class Mixing:
    """Makes soft targets, and mixes images where the recipe says so.

    Each group of `recipe.mix_group` consecutive views of the global batch is drawn for as a batch
    of timm's Mixup, seeded by the number of the group within the run. All groups of a batch are
    mixed at once.
    """

    def __init__(self, recipe: RecipeConfig, num_classes: int, *, seed: int) -> None:
        self.recipe = recipe
        self.num_classes = num_classes
        self.seed = seed
        self.mixup: Any = Mixup(
            mixup_alpha=recipe.mixup,
            cutmix_alpha=recipe.cutmix,
            cutmix_minmax=recipe.cutmix_minmax,
            prob=recipe.mix_prob,
            switch_prob=recipe.mix_switch_prob,
            mode=recipe.mix_mode,
        )

    def __call__(self, images: Tensor, labels: Tensor, first_view: int) -> tuple[Tensor, Tensor]:
        """The images [B, C, S, S], changed in place, and soft targets [B, num_classes].

        Args:
            labels: [B] int64.
            first_view: Number of the first image's view; a multiple of the group size.
        """
        smoothing = self.recipe.label_smoothing
        if not self.recipe.mixes:
            return images, mixup_target(labels, self.num_classes, smoothing=smoothing)
        draws = self._drawn(first_view, len(images), images.shape[-1])
        for rows in self._parts(len(images), images.device):
            _mix(images[rows], draws[rows])
        shares = np.array([(draw.own_share, draw.partners_share) for draw in draws], np.float32)
        on_device = torch.from_numpy(shares).to(images.device, non_blocking=True)
        own_share, other_share = on_device.split(1, dim=1)
        rest = smoothing / self.num_classes
        targets = one_hot(labels, self.num_classes, on_value=1 - smoothing + rest, off_value=rest)
        targets = targets * own_share + self._partners(targets) * other_share
        return images, targets

    def patch_targets(
        self, labels: Tensor, first_view: int, image_size: int, patch_size: int
    ) -> PatchTargets:
        """Targets of each patch of the same mixed images.

        Mixup gives each patch the same share.

        Args:
            labels: [B] int64, of images that are mixed with others.
            first_view: As for the images.
        """
        smoothing = self.recipe.label_smoothing
        own = mixup_target(labels, self.num_classes, smoothing=smoothing)
        share = torch.ones(len(labels), 1, image_size, image_size, device=labels.device)
        for draw, images in _runs(self._drawn(first_view, len(labels), image_size)):
            share[images, :, draw.rows, draw.columns] = draw.own
        return PatchTargets(own, self._partners(own), F.avg_pool2d(share, patch_size).flatten(1))

    def _partners(self, values: Tensor) -> Tensor:
        """The values of each image's partner: groups are mixed with themselves, reversed."""
        groups: Tensor = values.unflatten(0, (-1, self.recipe.mix_group))
        return groups.flip(1).flatten(0, 1)

    def _drawn(self, first_view: int, number: int, side: int) -> list[Draw]:
        """The draws for as many images."""
        size = self.recipe.mix_group
        groups = range(first_view // size, (first_view + number) // size)
        return [draw for group in groups for draw in self._of_group(group, side)]

    def _parts(self, number: int, device: torch.device) -> Iterator[slice]:
        """The images that are mixed at once, whose partners are among them and in reverse order.

        On a GPU a group, so that little is launched; on a CPU two images, which its cache holds.
        """
        size = self.recipe.mix_group
        for first in range(0, number, size):
            if device.type != "cpu":
                yield slice(first, first + size)
                continue
            for place in range(size // 2):
                apart = size - 1 - 2 * place
                yield slice(first + place, first + place + apart + 1, apart)

    def _of_group(self, number: int, side: int) -> list[Draw]:
        """The draws of a group, one for each image, as timm makes them and in its order."""
        # all that timm's Mixup draws from
        np.random.seed(seed_for(self.seed, "mix", number) % 2**32)
        mode, size = self.recipe.mix_mode, self.recipe.mix_group
        if mode == "batch":
            share, cuts = self.mixup._params_per_batch()
            return [self._draw(share, cuts, side)] * size
        shares = self.mixup._params_per_elem(size // 2 if mode == "pair" else size)
        draws = [self._draw(share, cuts, side) for share, cuts in zip(*shares, strict=True)]
        return draws + draws[::-1] if mode == "pair" else draws

    def _draw(self, share: float, cuts: bool, side: int) -> Draw:
        if share == 1:
            return UNMIXED
        if not cuts:
            whole = slice(0, side)
            return Draw(float(share), float(1 - share), share, 1 - share, whole, whole)
        top, bottom, left, right = self._box(share, side)
        # of the own image, in what the edges leave of the box; as exact as the draw
        share = type(share)(1 - (bottom - top) * (right - left) / side**2)
        return Draw(0.0, 1.0, share, 1 - share, slice(top, bottom), slice(left, right))

    def _box(self, share: float, side: int) -> tuple[int, int, int, int]:
        """First row, the one behind the last, and the same of the columns.

        `CutmixBox.released` is the box of timm 0.4.12, which the released code uses: it reaches
        `cut // 2` pixels to both sides of its centre. In timm now, an odd `cut` reaches one more to
        the bottom and to the right.
        """
        sides, minmax = (side, side), self.recipe.cutmix_minmax
        if minmax is not None or self.recipe.cutmix_box is CutmixBox.timm:
            box: tuple[int, int, int, int]
            box = rand_bbox(sides, share) if minmax is None else rand_bbox_minmax(sides, minmax)
            return box
        row, column = np.random.randint(side), np.random.randint(side)
        reach = int(side * np.sqrt(1 - share)) // 2
        top, left = max(0, row - reach), max(0, column - reach)
        return top, min(side, row + reach), left, min(side, column + reach)


def _mix(images: Tensor, draws: Sequence[Draw]) -> None:
    """Mixes images [number, C, S, S] in place, each with the one that is as far from the end."""
    runs = list(_runs(draws))
    originals = images if len(runs) == 1 else images.clone()
    for draw, run in runs:
        if draw.partners == 0:
            continue
        mirrored = slice(len(images) - run.stop, len(images) - run.start)
        partners = originals[mirrored, :, draw.rows, draw.columns].flip(0)
        within = images[run, :, draw.rows, draw.columns]
        within.mul_(draw.own).add_(partners.mul_(draw.partners))


def _runs(draws: Sequence[Draw]) -> Iterator[tuple[Draw, slice]]:
    """Each draw, and the images one after another that have it."""
    start = 0
    for draw, same in groupby(draws):
        stop = start + len(list(same))
        yield draw, slice(start, stop)
        start = stop
