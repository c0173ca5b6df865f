"""A run that takes a second: real 8x8 digits, two blocks of sixteen channels, everything of the recipe switched on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from antioversmooth.runs import Run

TINY = (
    "model.depth=2",
    "model.embed_dim=16",
    "model.num_heads=2",
    "model.image_size=8",
    "model.patch_size=4",
    "data.name=digits",
    "data.source=digits",
    "data.fingerprint=''",
    "data.num_train=1438",
    "data.num_val=359",
    "recipe.epochs=2",
    "recipe.warmup_epochs=0.5",
    "recipe.global_batch=128",
    "recipe.mix_group=16",
    "recipe.mixup=0.8",
    "recipe.cutmix=1.0",
    "recipe.random_erasing=0.25",
    "recipe.dropout=0.1",
    "recipe.drop_path=0.1",
    "runtime.log_every=1",
)


@pytest.fixture
def tiny_run(make_run: Callable[..., Run]) -> Callable[..., Run]:
    """Makes a tiny run, of 22 steps in two epochs; overrides as on the command line."""

    def make(*overrides: str, name: str = "deit_s12", seed: int = 0) -> Run:
        return make_run(name, *TINY, *overrides, seed=seed)

    return make


@pytest.fixture
def folder_run(tiny_run: Callable[..., Run], tmp_path: Path) -> Callable[..., Run]:
    """Makes a tiny run on image files: three classes of twelve colour images, a third of them for validation."""
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
