"""Optimizer, learning rate schedule and moving average of a recipe."""

from __future__ import annotations

from typing import Any

import torch
from timm.optim import create_optimizer_v2, param_groups_weight_decay
from timm.scheduler import create_scheduler_v2
from timm.utils.model_ema import ModelEmaV3
from torch import nn

from antioversmooth.config import RecipeConfig, ScheduleUnit
from antioversmooth.models.placement import scales
from antioversmooth.runs.metrics import TRAIN_LR, TRAIN_METHOD_LR


def build_optimizer(model: nn.Module, recipe: RecipeConfig) -> torch.optim.Optimizer:
    """The optimizer, without weight decay on vectors (biases, norms, scales) and the model's
    exclusions.

    With `recipe.method_lr_factor`, the parameters of a method are groups of their own.
    """
    excluded: set[str] = getattr(model, "no_weight_decay", set)()
    groups = param_groups_weight_decay(model, recipe.weight_decay, no_weight_decay_list=excluded)
    if recipe.method_lr_factor != 1:
        groups = _with_method_groups(groups, model, recipe.method_lr_factor)
    betas = (recipe.betas[0], recipe.betas[1])
    if recipe.optimizer == "adamw":
        # Fused, it takes 0.3 of the default's time on a CPU, and one kernel on a GPU.
        return torch.optim.AdamW(groups, lr=recipe.lr, betas=betas, eps=recipe.eps, fused=True)
    return create_optimizer_v2(
        groups,
        recipe.optimizer,
        lr=recipe.lr,
        momentum=recipe.momentum,
        # timm leaves out what an optimizer does not have
        betas=betas,
        eps=recipe.eps,
    )


def _with_method_groups(
    groups: list[dict[str, Any]], model: nn.Module, factor: float
) -> list[dict[str, Any]]:
    """The groups without the parameters of a method, and behind them groups of those alone.

    timm's scheduler multiplies the rate of a group by its `lr_scale`.
    """
    added = {id(parameter) for parameter in scales(model).values()}
    split = []
    for is_added, rate in ((False, {}), (True, {"lr_scale": factor})):
        for group in groups:
            chosen = [one for one in group["params"] if (id(one) in added) is is_added]
            split += [{**group, **rate, "params": chosen}] if chosen else []
    return split


def learning_rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """The present rates, by the names of their metrics."""
    return {
        TRAIN_METHOD_LR if "lr_scale" in group else TRAIN_LR: group["lr"]
        for group in optimizer.param_groups
    }


class Schedule:
    """The learning rate of each step: linear warm-up, then the fall of `recipe.schedule`.

    With `recipe.schedule_unit: epoch` it follows DeiT's code, which updates the rate after each
    epoch with that epoch's number: epochs 0 and 1 both train at `warmup_lr`, and all later ones lag
    by one. With `step` it changes every step, without a lag; with `step_late` it follows Swin's
    code, which updates the rate after each step with that step's number.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, recipe: RecipeConfig, steps_per_epoch: int
    ) -> None:
        self.optimizer = optimizer
        self.steps_per_epoch = steps_per_epoch
        self.by_epoch = recipe.schedule_unit is ScheduleUnit.epoch
        self.lag = 0 if recipe.schedule_unit is ScheduleUnit.step else 1
        unit = 1 if self.by_epoch else steps_per_epoch
        scale = recipe.lr_scale if recipe.scale_all_lr else 1.0
        # timm's "epochs" are epochs or steps here
        self.scheduler, _ = create_scheduler_v2(
            optimizer,
            "poly" if recipe.schedule == "linear" else recipe.schedule,
            num_epochs=recipe.epochs * unit,
            min_lr=recipe.min_lr * scale,
            warmup_epochs=round(recipe.warmup_epochs * unit),
            warmup_lr=recipe.warmup_lr * scale,
            decay_epochs=max(1, round(recipe.decay_epochs * unit)),
            # poly's power: a line
            decay_rate=1.0 if recipe.schedule == "linear" else recipe.decay_rate,
            step_on_epochs=self.by_epoch,
            updates_per_epoch=1,
        )

    def set(self, step: int) -> float:
        """Sets the optimizer's rate for a step, counted from 0, and returns it."""
        if self.by_epoch:
            self.scheduler.step(max(step // self.steps_per_epoch - self.lag, 0))
        else:
            self.scheduler.step_update(max(step - self.lag, 0))
        return float(self.optimizer.param_groups[0]["lr"])


class MovingAverage(ModelEmaV3):
    """timm's moving average of the weights, whose tensors are listed once, not at every step.

    Every tensor of a model stays the same object: steps and checkpoints write into it.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, decay=decay, foreach=True)
        # in a tuple: no module of the average
        self._source = (model,)
        pairs = list(
            zip(self.module.state_dict().values(), model.state_dict().values(), strict=True)
        )
        self._averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]

    def apply_update_(self, model: nn.Module, decay: float) -> None:
        """Moves the average towards the weights of the model, which is that of the constructor."""
        assert model is self._source[0]
        averages, values = map(list, zip(*self._averaged, strict=True))
        torch._foreach_lerp_(averages, values, weight=1 - decay)
        for average, value in self._copied:
            average.copy_(value)


def build_ema(model: nn.Module, recipe: RecipeConfig) -> MovingAverage | None:
    """Moving average of the weights, updated by one fused operation; None without `ema_decay`."""
    return None if recipe.ema_decay is None else MovingAverage(model, recipe.ema_decay)
