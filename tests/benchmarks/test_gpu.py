"""The check on a GPU, rehearsed on a CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from antioversmooth import spec
from benchmarks import gpu

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SMALL = ("model.depth=1", "model.embed_dim=16", "model.num_heads=2", "recipe.mix_group=2")


@pytest.mark.parametrize(("row", "loops"), [("deit_s24", 2), ("deit_s24_featscale", 3)])
def test_each_loop_of_a_row_is_measured_and_has_a_line(row: str, loops: int) -> None:
    effort = replace(gpu.REHEARSAL, batch=4, overrides=(*gpu.TINY, *SMALL))
    config = spec.load_experiment(EXPERIMENTS / f"{row}.yaml", gpu.overrides_of(effort))
    found = gpu.compare(config, effort, torch.device("cpu"))
    assert len(found) == loops
    assert all(min(loop["step_s"]) > 0 for loop in found.values())
    resume = {"repeated": {"differ": 0, "of": 9}}
    text = gpu.markdown({"machine": {"device": "a CPU"}, "rows": {row: found}, "resume": resume})
    assert text.count(f"| {row} |") == loops
    assert "0 of 9 values differ" in text


def test_checkpoints_are_compared_value_by_value_but_for_times() -> None:
    left = {"model": {"w": torch.ones(3)}, "step": 5, "epoch_s": 1.0}
    right = {"model": {"w": torch.ones(3)}, "step": 5, "epoch_s": 2.0}
    assert gpu.differing(left, right) == {"differ": 0, "of": 2}
    right["model"] = {"w": torch.tensor([1.0, 1.0, 1.5])}
    assert gpu.differing(left, {**right, "scaler": 1}) == {"differ": 2, "of": 3}
