"""Mixup and CutMix over groups of fixed size, independent of how a batch is split over devices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from timm.data.mixup import Mixup, mixup_target, rand_bbox_minmax
from torch import Tensor

from antioversmooth.config import CutmixBox, RecipeConfig
from antioversmooth.methods.losses import PatchTargets
from antioversmooth.training.randomness import seed_everything, seed_for


class ReleasedMixup(Mixup):
    """timm's Mixup with the CutMix of timm 0.4.12, which the released code uses.

    The box reaches `cut // 2` pixels to both sides of its centre; in timm now, an odd `cut` reaches
    one more to the bottom and to the right. All draws are timm's, in its order.
    """

    def _mix_batch(self, x: Tensor) -> float:
        share, cuts = self._params_per_batch()  # type: ignore[no-untyped-call]
        return self._mix(x, x.flip(0), share, cuts)

    def _mix_pair(self, x: Tensor) -> Tensor:
        last = len(x) - 1
        pairs = [slice(i, last - i + 1, last - 2 * i) for i in range(len(x) // 2)]
        return self._mix_each(x, pairs)

    def _mix_elem(self, x: Tensor) -> Tensor:
        return self._mix_each(x, [slice(i, i + 1) for i in range(len(x))])

    def _mix_each(self, x: Tensor, parts: Sequence[slice]) -> Tensor:
        """Mixes each part of a group by its own draw. Shares of the own image: [B, 1]."""
        partners, shares = x.flip(0), x.new_empty(len(x), 1)
        draws = self._params_per_elem(len(parts))  # type: ignore[no-untyped-call]
        for part, share, cuts in zip(parts, *draws, strict=True):
            shares[part] = self._mix(x[part], partners[part], share, cuts)
        return shares

    def _mix(self, images: Tensor, partners: Tensor, share: float, cuts: bool) -> float:
        """The share of the own image after mixing images with their partners, in place."""
        if share == 1:
            return 1.0
        if not cuts:
            images.mul_(share).add_(partners.mul_(1 - share))
            return float(share)
        rows, columns = self._box(images.shape[-2:], share)
        cut = images[..., rows, columns]
        cut.copy_(partners[..., rows, columns])
        # of the own image, in what the edges leave of the box
        return 1 - cut[0, 0].numel() / images[0, 0].numel()

    def _box(self, sides: tuple[int, ...], share: float) -> tuple[slice, slice]:
        if self.cutmix_minmax is not None:
            top, bottom, left, right = rand_bbox_minmax(sides, self.cutmix_minmax)
            return slice(top, bottom), slice(left, right)
        centres = [np.random.randint(side) for side in sides]
        reaches = [int(side * np.sqrt(1 - share)) // 2 for side in sides]
        rows, columns = (
            slice(max(0, centre - reach), min(side, centre + reach))
            for centre, reach, side in zip(centres, reaches, sides, strict=True)
        )
        return rows, columns


class Mixing:
    """Makes soft targets, and mixes images where the recipe says so.

    Each group of `recipe.mix_group` consecutive views of the global batch is a batch of timm's
    Mixup, seeded by the number of the group within the run.
    """

    def __init__(self, recipe: RecipeConfig, num_classes: int, *, seed: int) -> None:
        self.recipe = recipe
        self.num_classes = num_classes
        self.seed = seed
        mixup: Any = ReleasedMixup if recipe.cutmix_box is CutmixBox.released else Mixup
        self.mixup = mixup(
            mixup_alpha=recipe.mixup,
            cutmix_alpha=recipe.cutmix,
            cutmix_minmax=recipe.cutmix_minmax,
            prob=recipe.mix_prob,
            switch_prob=recipe.mix_switch_prob,
            mode=recipe.mix_mode,
            label_smoothing=recipe.label_smoothing,
            num_classes=num_classes,
        )

    def __call__(self, images: Tensor, labels: Tensor, first_view: int) -> tuple[Tensor, Tensor]:
        """The images [B, C, S, S], changed in place, and soft targets [B, num_classes].

        Args:
            labels: [B] int64.
            first_view: Number of the first image's view; a multiple of the group size.
        """
        if not self.recipe.mixes:
            return images, self._unmixed(labels)
        targets = []
        for group in self._seeded_groups(len(images), first_view):
            _, target = self.mixup(images[group], labels[group])
            targets.append(target)
        return images, torch.cat(targets)

    def patch_targets(
        self, labels: Tensor, first_view: int, image_size: int, patch_size: int
    ) -> PatchTargets:
        """Targets of each patch of the same mixed images.

        The same draws mix pictures that are white in the first half of a group and black in the
        second: each image's partner is in the other half, so grey is the share of white ones. Mixup
        gives each patch the same share.

        Args:
            labels: [B] int64, of images that are mixed with others.
            first_view: As for the images.
        """
        own, partners, shares = self._unmixed(labels), [], []
        for group in self._seeded_groups(len(labels), first_view):
            white = own.new_zeros(len(labels[group]), 1, image_size, image_size)
            half = len(white) // 2
            white[:half] = 1
            self.mixup(white, labels[group])
            shares += [white[:half], 1 - white[half:]]
            partners.append(own[group].flip(0))
        share = F.avg_pool2d(torch.cat(shares), patch_size).flatten(1)
        return PatchTargets(own, torch.cat(partners), share)

    def _unmixed(self, labels: Tensor) -> Tensor:
        """Soft targets of images that show one class each."""
        smoothing = self.recipe.label_smoothing
        targets: Tensor = mixup_target(labels, self.num_classes, smoothing=smoothing)
        return targets

    def _seeded_groups(self, count: int, first_view: int) -> Iterator[slice]:
        """The mixing groups of a batch, each right after its draws are seeded."""
        size = self.recipe.mix_group
        for start in range(0, count, size):
            seed_everything(seed_for(self.seed, "mix", (first_view + start) // size))
            yield slice(start, start + size)
