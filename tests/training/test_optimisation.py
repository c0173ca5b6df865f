from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from antioversmooth.config import Family, ModelConfig, RecipeConfig, Scaling, ScheduleUnit
from antioversmooth.models import build_model
from antioversmooth.training.step.optimisation import Schedule, build_ema, build_optimizer

DEIT = RecipeConfig(epochs=500, global_batch=1024, base_lr=5e-4)


def rates(recipe: RecipeConfig, steps_per_epoch: int, steps: list[int]) -> list[float]:
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=recipe.lr)
    schedule = Schedule(optimizer, recipe, steps_per_epoch)
    return [schedule.set(step) for step in steps]


def test_by_epoch_the_rate_is_the_released_codes() -> None:
    """Its logs: epochs 0 and 1 at 1e-6, epoch 2 at 2.008e-4; the cosine runs over all epochs, one
    epoch late."""
    first, last, second, third = rates(DEIT, 1251, [0, 1250, 1251, 2502])
    assert (first, last, second) == (1e-6, 1e-6, 1e-6)
    assert third == pytest.approx(2.008e-4, rel=1e-6)
    (late,) = rates(DEIT, 1251, [250 * 1251])
    assert late == pytest.approx(
        1e-5 + 0.5 * (1e-3 - 1e-5) * (1 + math.cos(math.pi * 249 / 500)), rel=1e-9
    )


def test_by_step_the_rate_rises_and_falls_with_every_step() -> None:
    recipe = replace(DEIT, epochs=10, warmup_epochs=2, schedule_unit=ScheduleUnit.step)
    start, half, peak, end = rates(recipe, 100, [0, 100, 200, 999])
    assert start == 1e-6
    assert half == pytest.approx((1e-6 + 1e-3) / 2, rel=1e-9)
    assert peak == pytest.approx(
        1e-5 + 0.5 * (1e-3 - 1e-5) * (1 + math.cos(math.pi * 0.2)), rel=1e-9
    )
    assert end == pytest.approx(1e-5, rel=1e-2)


def test_the_rate_depends_on_the_step_alone() -> None:
    recipe = replace(DEIT, epochs=10, schedule_unit=ScheduleUnit.step)
    there, _, back = rates(recipe, 100, [700, 3, 700])
    assert there == back


def test_swin_scales_every_rate() -> None:
    recipe = replace(DEIT, scale_all_lr=True, warmup_lr=5e-7)
    assert rates(recipe, 1251, [0]) == [1e-6]


@pytest.mark.parametrize("scaling", [Scaling.attnscale, Scaling.featscale])
def test_scalings_biases_norms_and_embeddings_do_not_decay(scaling: Scaling) -> None:
    model = build_model(ModelConfig(Family.vit, 1, 8, 2, 8, 4, scaling=scaling), num_classes=3)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = build_optimizer(model, DEIT).param_groups
    free = {names[id(p)] for group in groups if not group["weight_decay"] for p in group["params"]}
    decaying = {names[id(p)] for group in groups if group["weight_decay"] for p in group["params"]}
    assert {
        name for name in names.values() if "lamb" in name or name.endswith("bias") or "norm" in name
    } <= free
    assert {"pos_embed", "cls_token"} <= free
    assert decaying == set(names.values()) - free
    assert "blocks.0.attn.qkv.weight" in decaying


def test_optimizer_and_moving_average_are_one_operation_over_all_weights() -> None:
    """Fused AdamW steps without asking the device whether gradients overflowed; a loop over
    parameters would."""
    model = build_model(ModelConfig(Family.vit, 1, 8, 2, 8, 4), num_classes=3)
    optimizer, ema = build_optimizer(model, DEIT), build_ema(model, replace(DEIT, ema_decay=0.9))
    assert all(group["fused"] for group in optimizer.param_groups)
    assert ema is not None
    assert ema.foreach


def test_the_moving_average_follows_by_its_decay() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    ema = build_ema(model, replace(DEIT, ema_decay=0.9))
    assert ema is not None
    nn.init.constant_(model.weight, 2.0)
    ema.update(model)
    assert ema.module.weight.item() == pytest.approx(0.9 * 1 + 0.1 * 2, abs=1e-6)
    assert build_ema(model, DEIT) is None
