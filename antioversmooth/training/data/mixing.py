"""Mixup and CutMix over groups of fixed size, independent of how a batch is split over devices."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from timm.data.mixup import Mixup, mixup_target, one_hot, rand_bbox, rand_bbox_minmax
from torch import Tensor

from antioversmooth.config import CutmixBox, RecipeConfig
from antioversmooth.methods.losses import PatchTargets
from antioversmooth.training.data.boxes import inside
from antioversmooth.training.randomness import seed_for

Draw = tuple[float, float, float, float, int, int, int, int]
"""Weights of the own and of the partner's pixels outside the box, their shares of the target, and
the box within which the partner's pixels are: first row and column, and those behind the last."""
UNMIXED: Draw = (1.0, 0.0, 1.0, 0.0, 0, 0, 0, 0)


class MixedPixels:
    """How the images of a batch are mixed, on the device.

    Args:
        draws: One of `Draw` for each image; [B, 8].
    """

    def __init__(self, draws: npt.NDArray[np.float32], device: torch.device) -> None:
        table = torch.from_numpy(draws).to(device, non_blocking=True)
        self.weights, self.shares, self.low, self.high = table.split(2, dim=1)
        self.cuts = bool((draws[:, 4:6] < draws[:, 6:]).any())

    def of_pixels(self, side: int) -> tuple[Tensor, Tensor]:
        """Weights of the own and of the partner's pixels; [B, 1, 1 or S, 1 or S]."""
        own, partners = self.weights[:, :, None, None].split(1, dim=1)
        if not self.cuts:
            return own, partners
        box = inside(self.low, self.high, side)
        return own.masked_fill(box, 0), partners.masked_fill(box, 1)


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
        mixed = self._drawn(images, first_view, images.shape[-1])
        own, partners = mixed.of_pixels(images.shape[-1])
        other = self._partners(images).mul_(partners)
        own_share, other_share = mixed.shares.split(1, dim=1)
        rest = smoothing / self.num_classes
        targets = one_hot(labels, self.num_classes, on_value=1 - smoothing + rest, off_value=rest)
        targets = targets * own_share + self._partners(targets) * other_share
        return images.mul_(own).add_(other), targets

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
        share, _ = self._drawn(labels, first_view, image_size).of_pixels(image_size)
        share = share.expand(-1, -1, image_size, image_size)
        return PatchTargets(own, self._partners(own), F.avg_pool2d(share, patch_size).flatten(1))

    def _partners(self, values: Tensor) -> Tensor:
        """The values of each image's partner: groups are mixed with themselves, reversed."""
        groups: Tensor = values.unflatten(0, (-1, self.recipe.mix_group))
        return groups.flip(1).flatten(0, 1)

    def _drawn(self, batch: Tensor, first_view: int, side: int) -> MixedPixels:
        """The draws for as many images as the batch has, on its device."""
        size = self.recipe.mix_group
        first, number = first_view // size, len(batch) // size
        draws = [draw for i in range(first, first + number) for draw in self._of_group(i, side)]
        return MixedPixels(np.array(draws, np.float32), batch.device)

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
            return share, 1 - share, share, 1 - share, 0, 0, 0, 0
        top, bottom, left, right = self._box(share, side)
        # of the own image, in what the edges leave of the box; as exact as the draw
        share = type(share)(1 - (bottom - top) * (right - left) / side**2)
        return 1.0, 0.0, share, 1 - share, top, left, bottom, right

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
