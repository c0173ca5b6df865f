"""A run that takes a second: real 8x8 digits, two blocks of sixteen channels, everything of the recipe switched on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

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
