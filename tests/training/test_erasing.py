"""Rectangles that are drawn together, beside those that timm draws one by one."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from timm.data.random_erasing import RandomErasing

from antioversmooth.config import RecipeConfig
from antioversmooth.training.data.erasing import Erasing
from antioversmooth.training.randomness import seed_for

RECIPE = RecipeConfig(epochs=10, global_batch=32, base_lr=1e-3, random_erasing=1.0, mix_group=4)
VIEWS, SIDE = 4000, 24


def of_timm(count: int) -> np.ndarray:
    """Height, width, first row and first column of each rectangle of timm's; [number, 4]."""
    seen = []

    class Canvas:
        def __setitem__(self, place: tuple[slice, slice, slice], _: object) -> None:
            _, rows, columns = place
            height, width = rows.stop - rows.start, columns.stop - columns.start
            seen.append((height, width, rows.start, columns.start))

    erasing = RandomErasing(1.0, mode="const", max_count=count, device="cpu")
    random.seed(0)
    for _ in range(VIEWS):
        erasing._erase(Canvas(), 1, SIDE, SIDE, torch.float32)
    return np.array(seen)


@pytest.mark.parametrize("count", [1, 3])
def test_rectangles_have_the_distribution_of_timms(count: int) -> None:
    """Their number, and the quantiles of their sides and places."""
    low, high = Erasing(replace(RECIPE, erasing_count=count), seed=0).rectangles(range(VIEWS), SIDE)
    sides = high - low
    drawn = (sides > 0).all(-1)
    ours, timms = np.concatenate([sides, low], -1)[drawn], of_timm(count)
    assert len(ours) == pytest.approx(len(timms), rel=0.02)
    levels = np.linspace(0.1, 0.9, 9)
    difference = np.quantile(ours, levels, axis=0) - np.quantile(timms, levels, axis=0)
    # whole pixels; a quantile may fall on the next one
    assert np.abs(difference).max() <= 1
    assert np.abs(ours.mean(0) - timms.mean(0)).max() < 0.25
    assert (high <= SIDE).all()
    assert (low >= 0).all()


def test_as_many_images_are_erased_as_the_recipe_says() -> None:
    low, high = Erasing(replace(RECIPE, random_erasing=0.25), seed=0).rectangles(range(VIEWS), SIDE)
    # five standard deviations
    assert (high > low).all(-1).mean() == pytest.approx(0.25, abs=0.035)


def test_a_rectangle_is_erased_as_it_is_drawn() -> None:
    erasing = Erasing(replace(RECIPE, erasing_mode="const"), seed=3)
    erased = erasing(torch.ones(8, 2, SIDE, SIDE), 40) == 0
    for image, low, high in zip(erased, *erasing.rectangles(range(40, 48), SIDE), strict=True):
        expected = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
        expected[:, low[0, 0] : high[0, 0], low[0, 1] : high[0, 1]] = True
        assert torch.equal(image, expected)


def test_contents_are_normal_numbers_of_their_own_for_each_image() -> None:
    """And for each channel; [4, 2, 24, 24] of black images."""
    erasing = Erasing(replace(RECIPE, erasing_mode="pixel"), seed=3)
    found = erasing(torch.full((64, 2, SIDE, SIDE), 9.0), 0)
    values = found[found != 9]
    assert values.mean().item() == pytest.approx(0, abs=0.05)
    assert values.std().item() == pytest.approx(1, abs=0.05)
    assert len(values.unique()) > 0.99 * len(values)


@pytest.mark.parametrize("mode", ["pixel", "rand"])
def test_a_group_draws_numbers_for_its_rectangles_alone_one_after_another(mode: str) -> None:
    """In one draw from the seed of the group; a later rectangle lies on an earlier one."""
    recipe = replace(RECIPE, random_erasing=0.7, erasing_mode=mode, erasing_count=3)
    erasing = Erasing(recipe, seed=3)
    expected = torch.full((40, 2, SIDE, SIDE), 9.0)
    low, high = erasing.rectangles(range(80, 120), SIDE)
    for start in range(0, 40, 4):
        found = []
        for view in range(start, start + 4):
            for (top, left), (bottom, right) in zip(low[view], high[view], strict=True):
                part = expected[view, :, top:bottom, left:right]
                found += [part] if part.numel() else []
        numbers = [part.numel() if mode == "pixel" else 2 for part in found]
        generator = torch.Generator().manual_seed(seed_for(3, "erase", (80 + start) // 4))
        drawn = torch.empty(sum(numbers)).normal_(generator=generator).split(numbers)
        for part, values in zip(found, drawn, strict=True):
            part.copy_(values.view(part.shape if mode == "pixel" else (2, 1, 1)))
    whole = erasing(torch.full((40, 2, SIDE, SIDE), 9.0), 80)
    assert torch.equal(whole, expected)
    # of whole groups, of parts of some, and of one view
    for first, behind in ((4, 12), (2, 7), (13, 14)):
        part = erasing(torch.full((behind - first, 2, SIDE, SIDE), 9.0), 80 + first)
        assert torch.equal(part, expected[first:behind])


def test_images_without_a_rectangle_need_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "normal_", None)
    images = torch.ones(8, 2, SIDE, SIDE)
    assert Erasing(replace(RECIPE, random_erasing=1e-9), seed=3)(images, 0).eq(1).all()
