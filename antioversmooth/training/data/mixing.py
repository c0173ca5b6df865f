"""Mixup and CutMix over groups of fixed size, independent of how a batch is split over devices."""

from __future__ import annotations

import torch
from timm.data.mixup import Mixup, mixup_target
from torch import Tensor

from antioversmooth.config import RecipeConfig
from antioversmooth.training.randomness import seed_everything, seed_for


class Mixing:
    """Makes soft targets, and mixes images where the recipe says so.

    Each group of `recipe.mix_group` consecutive views of the global batch shares one draw of timm's
    Mixup in batch mode, seeded by the number of the group within the run.
    """

    def __init__(self, recipe: RecipeConfig, num_classes: int, *, seed: int) -> None:
        self.recipe = recipe
        self.num_classes = num_classes
        self.seed = seed
        self.mixup = Mixup(
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
