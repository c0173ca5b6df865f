"""Runs that take a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from processes import tiny

from antioversmooth.runs import Run


@pytest.fixture
def tiny_run(make_run: Callable[..., Run]) -> Callable[..., Run]:
    """Makes a tiny run, of 22 steps in two epochs; overrides as on the command line."""

    def make(*overrides: str, name: str = "deit_s12", seed: int = 0) -> Run:
        return make_run(name, *tiny(*overrides), seed=seed)

    return make


@pytest.fixture
def folder_run(tiny_run: Callable[..., Run], tmp_path: Path) -> Callable[..., Run]:
    """Makes a tiny run on image files: three classes of twelve colour images, a third of them for
    validation."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for label in ("ash", "birch", "cedar"):
            folder = tmp_path / "images" / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (12, 10, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{label}{number}.png")

    def make(*overrides: str) -> Run:
        return tiny_run(
            "data.name=trees",
            "data.source=image_folder",
            f"data.root={tmp_path}/images",
            "data.num_classes=3",
            "data.num_train=24",
            "data.num_val=12",
            "data.in_channels=3",
            "data.mean=[0.5,0.5,0.5]",
            "data.std=[0.25,0.25,0.25]",
            "recipe.global_batch=8",
            "recipe.mix_group=4",
            "recipe.repeated_augmentation=3",
            "recipe.rand_augment=rand-m9-mstd0.5-inc1",
            "recipe.crop_scale=[0.5,1.0]",
            "recipe.hflip=0.5",
            "runtime.workers=0",
            *overrides,
        )

    return make
