from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.data.mixup import Mixup

from antioversmooth.config import CutmixBox, RecipeConfig
from antioversmooth.training.data.mixing import Mixing, _mix
from antioversmooth.training.randomness import seed_everything, seed_for

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


def painted(side: int) -> torch.Tensor:
    """Four images, each of the colour of its number. Shape: [4, 1, side, side]."""
    return torch.arange(4.0).view(4, 1, 1, 1).repeat(1, 1, side, side)


@pytest.mark.parametrize("side", [7, 8, 28])
@pytest.mark.parametrize("box", CutmixBox)
def test_a_cutmix_box_has_the_sides_of_its_timm(side: int, box: CutmixBox) -> None:
    """Rows of timm 0.4.12: [c - cut // 2, c + cut // 2); now up to c + (cut + 1) // 2."""
    more = 0 if box is CutmixBox.released else 1
    recipe = replace(RECIPE, mixup=0.0, label_smoothing=0.0, cutmix_box=box)
    mixing, seen = Mixing(recipe, 4, seed=3), set()
    for group in range(25):
        mixed, targets = mixing(painted(side), torch.arange(4), 4 * group)
        seed_everything(seed_for(3, "mix", group))
        np.random.rand()
        cut = int(side * np.sqrt(1 - np.random.beta(1.0, 1.0)))
        top, left = np.random.randint(side), np.random.randint(side)
        expected = torch.zeros(side, side, dtype=torch.bool)
        for row in range(top - cut // 2, top + (cut + more) // 2):
            for column in range(left - cut // 2, left + (cut + more) // 2):
                if 0 <= row < side and 0 <= column < side:
                    expected[row, column] = True
        for image in range(4):
            assert torch.equal(mixed[image, 0], torch.where(expected, 3.0 - image, float(image)))
            share = 1 - float(expected.float().mean())
            assert targets[image, image] == pytest.approx(share, abs=1e-6)
            assert targets[image, 3 - image] == pytest.approx(1 - share, abs=1e-6)
        seen.add(cut % 2)
    assert seen == {0, 1}


def test_mixup_is_timms_whatever_the_box() -> None:
    results = [
        Mixing(replace(RECIPE, cutmix=0.0, cutmix_box=box), 5, seed=3)(images(), LABELS, 8)
        for box in CutmixBox
    ]
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert not torch.equal(results[0][0], images())


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
@pytest.mark.parametrize(
    "change", [{"cutmix": 0.0}, {"cutmix_minmax": [0.2, 0.8]}, {"mix_prob": 0.5, "cutmix": 0.0}]
)
def test_every_mode_is_timms_within_each_group(mode: str, change: dict[str, object]) -> None:
    """Boxes between two sides are the same in timm 0.4.12 and now; the others differ."""
    recipe = replace(RECIPE, mix_mode=mode, **change)
    mixed, targets = Mixing(recipe, 5, seed=3)(images(), LABELS, 8)
    timms = Mixup(
        recipe.mixup,
        recipe.cutmix,
        recipe.cutmix_minmax,
        prob=recipe.mix_prob,
        mode=mode,
        num_classes=5,
    )
    for start in range(0, 16, 4):
        seed_everything(seed_for(3, "mix", (8 + start) // 4))
        group = slice(start, start + 4)
        expected, labels = timms(images()[group], LABELS[group])
        assert torch.equal(mixed[group], expected)
        assert torch.equal(targets[group], labels.expand(4, 5))


@pytest.mark.parametrize("mode", ["pair", "elem"])
def test_boxes_of_a_pair_are_one_and_those_of_elements_differ(mode: str) -> None:
    recipe = replace(RECIPE, mixup=0.0, label_smoothing=0.0, mix_mode=mode)
    mixing, same = Mixing(recipe, 4, seed=3), []
    for group in range(10):
        mixed, targets = mixing(painted(28), torch.arange(4), 4 * group)
        own = torch.stack([mixed[image, 0] == image for image in range(4)])
        assert torch.allclose(targets.diagonal(), own.float().mean((1, 2)), atol=1e-6, rtol=0)
        assert torch.allclose(targets.sum(1), torch.ones(4), atol=1e-6, rtol=0)
        same.append(torch.equal(own[0], own[3]))
    assert all(same) if mode == "pair" else not any(same)


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
def test_a_group_is_mixed_at_once_as_it_is_in_pairs(mode: str) -> None:
    """On a GPU, and on a CPU."""
    mixing = Mixing(replace(RECIPE, mix_mode=mode), 5, seed=3)
    pairs, _ = mixing(images(), LABELS, 64)
    groups = images()
    draws = mixing._drawn(64, 16, 8)
    parts = list(mixing._parts(16, torch.device("cuda")))
    for rows in parts:
        _mix(groups[rows], draws[rows])
    assert len(parts) == 4
    assert torch.equal(groups, pairs)


@pytest.mark.parametrize("box", CutmixBox)
def test_a_group_that_is_not_mixed_is_unchanged(box: CutmixBox) -> None:
    mixing = Mixing(replace(RECIPE, mix_prob=1e-9, label_smoothing=0.0, cutmix_box=box), 5, seed=3)
    untouched, targets = mixing(images(), LABELS, 0)
    assert torch.equal(untouched, images())
    assert torch.equal(targets, F.one_hot(LABELS, 5).float())


def test_without_mixing_the_loss_is_that_of_label_smoothing() -> None:
    recipe = replace(RECIPE, mixup=0.0, cutmix=0.0, label_smoothing=0.1)
    untouched, targets = Mixing(recipe, 5, seed=3)(images(), LABELS, 0)
    logits = torch.randn(16, 5, generator=torch.Generator().manual_seed(1))
    assert torch.equal(untouched, images())
    expected = F.cross_entropy(logits, LABELS, label_smoothing=0.1)
    assert torch.allclose(F.cross_entropy(logits, targets), expected, atol=1e-6, rtol=0)
