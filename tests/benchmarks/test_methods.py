"""Every method that exists has its cost measured."""

from __future__ import annotations

from pathlib import Path

from antioversmooth.methods import METHODS
from benchmarks.methods import BACKBONE, step_times


def test_a_step_of_every_method_is_timed_beside_the_backbone(experiments: Path) -> None:
    tiny = ("model.image_size=32", "model.embed_dim=24", "model.depth=3", "data.num_classes=10")
    found = step_times(experiments.parent, rounds=2, overrides=tiny)
    assert [*found] == [BACKBONE, *(f"{BACKBONE}_{name}" for name in METHODS)]
    assert all(len(rounds) == 2 and min(rounds) > 0 for rounds in found.values())
