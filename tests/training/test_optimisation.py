from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from timm.optim import get_optimizer_info
from torch import nn

from antioversmooth.config import Family, ModelConfig, RecipeConfig, ScheduleUnit
from antioversmooth.config.optimizers import BETAS, EPS, MOMENTUM, OPTIMIZERS
from antioversmooth.errors import AttemptEnded
from antioversmooth.models import build_model
from antioversmooth.runs import Run
from antioversmooth.training.step.optimisation import (
    Schedule,
    build_ema,
    build_optimizer,
    learning_rates,
)
from antioversmooth.training.train import train

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


def test_swins_loop_sets_the_rate_after_the_step_it_is_of() -> None:
    """So steps 0 and 1 both train at the start of the warm-up."""
    recipe = replace(DEIT, epochs=2, warmup_epochs=1, schedule_unit=ScheduleUnit.step_late)
    warm = [1e-6 + (1e-3 - 1e-6) * step / 10 for step in range(10)]
    cosine = [
        1e-5 + 0.5 * (1e-3 - 1e-5) * (1 + math.cos(math.pi * step / 20)) for step in range(10, 20)
    ]
    assert rates(recipe, 10, [*range(20)]) == pytest.approx(
        [warm[0], *warm, *cosine[:-1]], rel=1e-9
    )


def test_the_rate_depends_on_the_step_alone() -> None:
    recipe = replace(DEIT, epochs=10, schedule_unit=ScheduleUnit.step)
    there, _, back = rates(recipe, 100, [700, 3, 700])
    assert there == back


def test_swin_scales_every_rate() -> None:
    recipe = replace(DEIT, scale_all_lr=True, warmup_lr=5e-7)
    assert rates(recipe, 1251, [0]) == [1e-6]


@pytest.mark.parametrize("scaling", ["attnscale", "featscale"])
def test_scalings_biases_norms_and_embeddings_do_not_decay(scaling: str) -> None:
    model = build_model(ModelConfig(Family.vit, 1, 8, 2, 8, 4, method=scaling), num_classes=3)
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


def _scaled(scaling: str) -> nn.Module:
    torch.manual_seed(0)
    model = build_model(ModelConfig(Family.vit, 2, 8, 2, 8, 4, method=scaling), num_classes=3)
    for name, parameter in model.named_parameters():
        if "lamb" in name:
            nn.init.normal_(parameter, std=0.1)
    return model.double()


def _updates(factor: float, scaling: str, steps: list[int]) -> dict[str, torch.Tensor]:
    """What each parameter moves by in AdamW's first update, at the rates of the last step."""
    recipe = replace(DEIT, epochs=4, warmup_epochs=2, method_lr_factor=factor)
    model = _scaled(scaling)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = build_optimizer(model, recipe)
    schedule = Schedule(optimizer, recipe, 10)
    for step in steps:
        schedule.set(step)
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    model(images.double()).square().sum().backward()
    optimizer.step()
    return {name: value - before[name] for name, value in model.state_dict().items()}


@pytest.mark.parametrize("scaling", ["attnscale", "featscale"])
@pytest.mark.parametrize("steps", [[0], [0, 10], [39, 30]], ids=["start", "warm-up", "cosine"])
def test_the_factor_of_a_method_acts_on_its_parameters_and_on_nothing_else(
    scaling: str, steps: list[int]
) -> None:
    plain, faster = (_updates(factor, scaling, steps) for factor in (1.0, 30.0))
    for name, update in plain.items():
        if "lamb" in name:
            assert update.abs().min() > 0
            assert torch.allclose(faster[name], 30 * update, atol=0, rtol=1e-8), name
        else:
            assert torch.equal(faster[name], update), name


@pytest.mark.parametrize("unit", ScheduleUnit)
def test_the_rate_of_a_method_is_the_factor_times_that_of_the_others_in_every_step(
    unit: ScheduleUnit,
) -> None:
    recipe = replace(DEIT, epochs=4, warmup_epochs=2, schedule_unit=unit, method_lr_factor=30.0)
    optimizer = build_optimizer(_scaled("featscale"), recipe)
    schedule = Schedule(optimizer, recipe, 10)
    for step, expected in enumerate(rates(replace(recipe, method_lr_factor=1.0), 10, [*range(40)])):
        schedule.set(step)
        found = learning_rates(optimizer)
        assert found == pytest.approx(
            {"train/lr": expected, "train/method_lr": 30 * expected}, rel=1e-12
        )


def test_a_resumed_optimizer_goes_on_at_both_rates() -> None:
    recipe = replace(DEIT, method_lr_factor=30.0)
    model = _scaled("attnscale")
    saved = build_optimizer(model, recipe).state_dict()
    resumed = build_optimizer(model, recipe)
    schedule = Schedule(resumed, recipe, 10)
    resumed.load_state_dict(saved)
    rate = schedule.set(1000)
    assert learning_rates(resumed) == {"train/lr": rate, "train/method_lr": 30 * rate}


def test_without_a_factor_or_a_method_the_groups_are_those_of_decay_alone() -> None:
    """So checkpoints from before there was a factor are resumed."""
    for scaling, factor in (("attnscale", 1.0), ("none", 30.0)):
        groups = build_optimizer(
            _scaled(scaling), replace(DEIT, method_lr_factor=factor)
        ).param_groups
        assert [group["weight_decay"] for group in groups] == [0, DEIT.weight_decay]
        assert not any("lr_scale" in group for group in groups)


def test_the_journal_has_the_rate_of_a_method_where_it_differs(
    tiny_run: Callable[..., Run],
) -> None:
    for factor, expected in ((1, None), (4, 4.0)):
        run = tiny_run(
            f"recipe.method_lr_factor={factor}", "runtime.max_steps=1", name="deit_s12_attnscale"
        )
        with pytest.raises(AttemptEnded):
            train(run)
        (record,) = (record for record in run.metrics() if "train/lr" in record)
        found = record.get("train/method_lr")
        assert (found and found / record["train/lr"]) == expected


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
    # the tensors that it reads are those of the model that it was made for
    with pytest.raises(AssertionError):
        ema.update(nn.Linear(1, 1, bias=False))


def test_other_schedules_are_their_formulas() -> None:
    recipe = replace(DEIT, epochs=10, warmup_epochs=2, schedule_unit=ScheduleUnit.step)
    for step in (250, 600, 900):
        share = step / 1000
        (linear,) = rates(replace(recipe, schedule="linear"), 100, [step])
        assert linear == pytest.approx(1e-5 + (1e-3 - 1e-5) * (1 - share), rel=1e-9)
        (tanh,) = rates(replace(recipe, schedule="tanh"), 100, [step])
        bend = math.tanh(-7 * (1 - share) + 3 * share)
        assert tanh == pytest.approx(1e-5 + 0.5 * (1e-3 - 1e-5) * (1 - bend), rel=1e-9)
    falls = replace(recipe, schedule="step", decay_epochs=2.5, decay_rate=0.2)
    assert rates(falls, 100, [240, 250, 499, 500]) == pytest.approx(
        [1e-3, 2e-4, 2e-4, 4e-5], rel=1e-9
    )


def test_by_epoch_a_fall_comes_one_epoch_late_as_every_rate_does() -> None:
    falls = replace(DEIT, epochs=10, warmup_epochs=0, schedule="step", decay_epochs=3)
    assert rates(falls, 10, [0, 39, 40]) == pytest.approx([1e-3, 1e-3, 1e-4], rel=1e-9)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_resumes_exactly_and_reads_the_options_that_its_table_says(name: str) -> None:
    recipe = replace(
        DEIT, epochs=2, warmup_epochs=1, optimizer=name, betas=[0.8, 0.95], eps=1e-7, momentum=0.7
    )
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    optimizer = build_optimizer(model, recipe)
    _steps(model, optimizer, recipe, range(4))
    saved = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict()], saved)
    _steps(model, optimizer, recipe, range(4, 8))
    resumed = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    again = build_optimizer(resumed, recipe)
    saved.seek(0)
    weights, state = torch.load(saved, weights_only=True)
    resumed.load_state_dict(weights)
    again.load_state_dict(state)
    _steps(resumed, again, recipe, range(4, 8))
    for parameter, other in zip(model.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(parameter, other)
        assert parameter.isfinite().all()
    known = get_optimizer_info(name)
    assert OPTIMIZERS[name] == {
        option for option in (BETAS, EPS, MOMENTUM) if getattr(known, f"has_{option}")
    }
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.05}


def _steps(
    model: nn.Module, optimizer: torch.optim.Optimizer, recipe: RecipeConfig, steps: range
) -> None:
    schedule = Schedule(optimizer, recipe, 4)
    for step in steps:
        schedule.set(step)
        images = torch.randn(4, 4, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(images).square().mean().backward()
        optimizer.step()


def test_sgd_is_torchs_with_the_momentum_of_the_recipe() -> None:
    recipe = replace(DEIT, optimizer="momentum", momentum=0.7, weight_decay=0.1)
    model, plain = nn.Linear(3, 2, bias=False), nn.Linear(3, 2, bias=False)
    plain.load_state_dict(model.state_dict())
    expected = torch.optim.SGD(plain.parameters(), lr=recipe.lr, momentum=0.7, weight_decay=0.1)
    ours = build_optimizer(model, recipe)
    for _ in range(3):
        for one, optimizer in ((model, ours), (plain, expected)):
            optimizer.zero_grad()
            one(torch.ones(1, 3)).square().sum().backward()
            optimizer.step()
    assert torch.equal(model.weight, plain.weight)


def test_a_method_has_its_rate_in_other_optimizers_too() -> None:
    config = ModelConfig(Family.vit, 1, 8, 2, 8, 4, method="attnscale")
    recipe = replace(DEIT, optimizer="sgd", method_lr_factor=30.0)
    optimizer = build_optimizer(build_model(config, num_classes=3), recipe)
    Schedule(optimizer, recipe, 4).set(0)
    rates = sorted({group["lr"] for group in optimizer.param_groups})
    assert rates == pytest.approx([1e-6, 3e-5], rel=1e-9)
