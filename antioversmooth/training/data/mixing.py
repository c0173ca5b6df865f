"""Mixup and CutMix over groups of fixed size, independent of how a batch is split over devices."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from timm.data.mixup import Mixup, mixup_target
from torch import Tensor

from antioversmooth.config import CutmixBox, RecipeConfig
from antioversmooth.training.randomness import seed_everything, seed_for


class ReleasedMixup(Mixup):
    """Mixup in batch mode with the CutMix of timm 0.4.12, which the released code uses.

    The box reaches `cut // 2` pixels to both sides of its centre; in timm now, an odd `cut` reaches
    one more to the bottom and to the right.
    """

    def _mix_batch(self, x: Tensor) -> float:
        share, cuts = self._params_per_batch()  # type: ignore[no-untyped-call]
        if share == 1:
            return 1.0
        if not cuts:
            partners = x.flip(0).mul_(1 - share)
            x.mul_(share).add_(partners)
            return float(share)
        sides = x.shape[-2:]
        centres = [np.random.randint(side) for side in sides]
        reaches = [int(side * np.sqrt(1 - share)) // 2 for side in sides]
        rows, columns = (
            slice(max(0, centre - reach), min(side, centre + reach))
            for centre, reach, side in zip(centres, reaches, sides, strict=True)
        )
        cut = x[..., rows, columns]
        cut.copy_(cut.flip(0))
        # of the own image, in what the edges leave of the box
        return 1 - cut[0, 0].numel() / x[0, 0].numel()


class Mixing:
    """Makes soft targets, and mixes images where the recipe says so.

    Each group of `recipe.mix_group` consecutive views of the global batch shares one draw of timm's
    Mixup in batch mode, seeded by the number of the group within the run.
    """

    def __init__(self, recipe: RecipeConfig, num_classes: int, *, seed: int) -> None:
        self.recipe = recipe
        self.num_classes = num_classes
        self.seed = seed
        mixup: Any = ReleasedMixup if recipe.cutmix_box is CutmixBox.released else Mixup
        self.mixup = mixup(
            mixup_alpha=recipe.mixup,
            cutmix_alpha=recipe.cutmix,
            prob=recipe.mix_prob,
            switch_prob=recipe.mix_switch_prob,
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
            smoothing = self.recipe.label_smoothing
            return images, mixup_target(labels, self.num_classes, smoothing=smoothing)
        size = self.recipe.mix_group
        targets = []
        for start in range(0, len(images), size):
            group = slice(start, start + size)
            seed_everything(seed_for(self.seed, "mix", (first_view + start) // size))
            _, target = self.mixup(images[group], labels[group])
            targets.append(target)
        return images, torch.cat(targets)
