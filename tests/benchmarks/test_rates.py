from __future__ import annotations

import math
from pathlib import Path

import pytest

from antioversmooth import spec
from benchmarks.rates import sum_of_rates

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def test_the_sum_of_the_rates_is_that_of_warm_up_and_cosine() -> None:
    overrides = ["profile=mini", "recipe.epochs=4", "recipe.warmup_epochs=1", "recipe.min_lr=0"]
    row = spec.load_experiment(EXPERIMENTS / "deit_s12.yaml", [*overrides, "recipe.warmup_lr=0"])
    steps, warm_up = row.total_steps, row.steps_per_epoch
    rates = [
        step / warm_up if step < warm_up else (1 + math.cos(math.pi * step / steps)) / 2
        for step in range(steps)
    ]
    assert sum_of_rates(row) == pytest.approx(row.recipe.lr * sum(rates), rel=1e-12)
