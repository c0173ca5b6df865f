from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from antioversmooth.config import RecipeConfig
from antioversmooth.training.data.mixing import Mixing

RECIPE = RecipeConfig(epochs=10, global_batch=32, base_lr=1e-3, mix_group=4)
LABELS = torch.arange(16) % 5


def images() -> torch.Tensor:
    return torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_mixing_does_not_depend_on_the_split_over_ranks() -> None:
    mixing = Mixing(RECIPE, 5, seed=3)
    whole, targets = mixing(images(), LABELS, first_view=64)
    halves = [
        mixing(images()[part], LABELS[part], first_view=64 + part.start)
        for part in (slice(0, 8), slice(8, 16))
    ]
    assert torch.equal(whole, torch.cat([half[0] for half in halves]))
    assert torch.equal(targets, torch.cat([half[1] for half in halves]))


def test_each_group_has_its_own_draw() -> None:
    _, targets = Mixing(replace(RECIPE, cutmix=0.0), 5, seed=3)(
        images(), torch.zeros(16, dtype=torch.long), 0
    )
    mixed, _ = Mixing(replace(RECIPE, cutmix=0.0), 5, seed=3)(
        torch.arange(16.0).view(16, 1, 1, 1), LABELS, 0
    )
    shares = {round(float((mixed[start, 0, 0, 0] - start) / 3), 4) for start in range(0, 16, 4)}
    assert len(shares) == 4
    assert torch.allclose(targets.sum(1), torch.ones(16))


@pytest.mark.parametrize(
    "recipe", [RECIPE, replace(RECIPE, mixup=0.0), replace(RECIPE, cutmix=0.0)]
)
def test_targets_are_distributions_and_images_change(recipe: RecipeConfig) -> None:
    mixed, targets = Mixing(recipe, 5, seed=3)(images(), LABELS, 0)
    assert not torch.equal(mixed, images())
    assert torch.allclose(targets.sum(1), torch.ones(16), atol=1e-6, rtol=0)


def test_without_mixing_the_loss_is_that_of_label_smoothing() -> None:
    recipe = replace(RECIPE, mixup=0.0, cutmix=0.0, label_smoothing=0.1)
    untouched, targets = Mixing(recipe, 5, seed=3)(images(), LABELS, 0)
    logits = torch.randn(16, 5, generator=torch.Generator().manual_seed(1))
    assert torch.equal(untouched, images())
    expected = F.cross_entropy(logits, LABELS, label_smoothing=0.1)
    assert torch.allclose(F.cross_entropy(logits, targets), expected, atol=1e-6, rtol=0)
