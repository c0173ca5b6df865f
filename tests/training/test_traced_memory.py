"""The memory that a launch shows, beside traced steps on fake GPUs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_devices import trace

from antioversmooth import runs, spec
from antioversmooth.config import Experiment
from antioversmooth.runs import memory

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
CHECKPOINTED = "runtime.gradient_checkpointing=true"
SWIN = ["model.depth=5", "model.stage_depths=[1,1,2,1]"]

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="here is a real GPU")


def row(name: str, *overrides: str) -> Experiment:
    return spec.load_experiment(EXPERIMENTS / f"{name}.yaml", list(overrides))


@pytest.mark.parametrize(
    ("name", "overrides", "world_size"),
    [
        # one process has no buckets of gradients, a second pass adds their sum
        ("deit_s12", ["recipe.global_batch=64"], 1),
        ("deit_s12", ["recipe.global_batch=64", "runtime.device_batch=32"], 1),
        ("deit_s12", ["recipe.global_batch=128", "runtime.device_batch=32"], 2),
        ("deit_s12", ["recipe.ema_decay=null", "recipe.precision=bfloat16"], 16),
        ("deit_s12", ["recipe.precision=float32", "model.distillation_token=true"], 16),
        ("deit_s12", ["model.image_size=384", "model.embed_dim=768", "model.num_heads=12"], 32),
        ("deit_s24_featscale", [CHECKPOINTED], 16),
        ("deit_s12_contranorm", ["model.image_size=160"], 8),
        ("cait_s24_featscale", [CHECKPOINTED, "recipe.dropout=0.1"], 4),
        ("swin_s", ["runtime.device_batch=32", "recipe.dropout=0.1"], 16),
        ("swin_s_attnscale", ["runtime.device_batch=32", CHECKPOINTED], 16),
    ],
)
def test_the_peak_is_within_a_twentieth_of_the_traced_one(
    name: str, overrides: list[str], world_size: int
) -> None:
    shallow = SWIN if name.startswith("swin") else ["model.depth=5"]
    config = row(name, *shallow, *overrides)
    images, passes = runs.deal(config, world_size)
    predicted = memory.peak_bytes(config, images, passes, world_size)
    assert predicted == pytest.approx(trace(config, world_size=world_size).peak_bytes, rel=0.05)


def test_tiny_models_are_not_estimated_worse() -> None:
    config = row("cait_s24_featscale", "profile=mini")
    images, passes = runs.deal(config, 1)
    predicted = memory.peak_bytes(config, images, passes, 1)
    assert predicted == pytest.approx(trace(config, world_size=1).peak_bytes, rel=0.05)


def test_the_largest_pass_is_chosen_whose_traced_step_fits() -> None:
    config = row("deit_s12", "model.depth=4", "cluster.gpu_mem_gb=5")
    room = memory.room_bytes(config.cluster)
    assert room is not None
    assert runs.deal(config, 2) == (128, 4)

    def traced(device_batch: int) -> int:
        runtime = replace(config.runtime, device_batch=device_batch)
        return trace(replace(config, runtime=runtime), world_size=2).peak_bytes

    assert traced(128) < room < traced(256)
