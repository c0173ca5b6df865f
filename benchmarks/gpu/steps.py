"""Training steps of this project beside timm's and the textbook form: times, memory and waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch
from timm.data.mixup import Mixup
from timm.data.random_erasing import RandomErasing
from timm.loss import SoftTargetCrossEntropy
from timm.utils import ModelEmaV3
from torch import nn
from torch.profiler import ProfilerActivity, profile

from antioversmooth import spec
from antioversmooth.config import Experiment, Family, Precision
from antioversmooth.training.evaluator import autocast
from antioversmooth.training.weights.initial import new_model
from benchmarks.gpu.machine import the_device
from benchmarks.gpu.parts import TIMM, Finding
from benchmarks.host import OurStep, noise
from benchmarks.models import SCALINGS
from benchmarks.textbook import textbook
from benchmarks.timing import spread

BATCHES = {"deit_s24": 256, "cait_s24_scratch": 128, "swin_s": 128}
"""Images of a device in the recipes of the released code: 2 x 256, 4 x 128, 8 x 128."""


@dataclass(frozen=True)
class Effort:
    """Number of the measured steps, and the size of the models."""

    steps: int = 10
    """Steps per round."""
    warm_up: int = 4
    rounds: int = 3
    batch: int | None = None
    """Images per step; None: those of `BATCHES`."""
    overrides: tuple[str, ...] = ()


REHEARSAL = Effort(
    steps=1,
    warm_up=1,
    rounds=1,
    batch=4,
    # mixing and dropout as at full size, where the mini's 24 layers have none
    overrides=(
        "profile=mini",
        "recipe.mixup=0.2",
        "recipe.cutmix=0.2",
        "recipe.mix_prob=1.0",
        "recipe.mix_group=2",
        "recipe.dropout=0.1",
    ),
)
SHALLOW = {"swin_s": ("model.depth=4", "model.stage_depths=[2,2]")}
"""Overrides for a rehearsal, where they are not `model.depth=2`."""


def compare_loops(root: Path, row: str) -> Iterator[Finding]:
    """Yields what is measured of each loop around a backbone.

    The input lies in the host's memory as bytes, as a loader delivers it.
    """
    device = the_device()
    effort = Effort() if device.type == "cuda" else REHEARSAL
    torch.set_num_threads(1)
    for name, build in loops(root, row, effort, device).items():
        try:
            yield name, measure(build(), effort, device)
        except torch.OutOfMemoryError as err:
            yield name, {"error": str(err).partition("\n")[0]}


def load(root: Path, row: str, method: str, effort: Effort) -> Experiment:
    """The row of a backbone, with a method; the batch of a device is one pass."""
    name = row if method == "none" else f"{row}_{method}"
    batch = effort.batch or BATCHES[row]
    shallow = SHALLOW.get(row, ("model.depth=2",)) if effort is REHEARSAL else ()
    overrides = [*effort.overrides, *shallow, f"recipe.global_batch={batch}"]
    return spec.load_experiment(root / "experiments" / f"{name}.yaml", overrides)


def loops(
    root: Path, row: str, effort: Effort, device: torch.device
) -> dict[str, Callable[[], OurStep | TimmStep]]:
    """A function that makes the step, for each loop: timm's with its plain model, and this
    project's; then with each of the paper's methods, this project's and timm's with the method
    written out."""
    plain = load(root, row, "none", effort)
    found: dict[str, Callable[[], OurStep | TimmStep]] = {
        TIMM: lambda: TimmStep(new_model(plain, seed=0), plain, device),
        "ours": lambda: OurStep(plain, ranks=1, device=device),
    }
    for method in SCALINGS:
        config = load(root, row, method, effort)
        found[f"ours, {method}"] = partial(OurStep, config, ranks=1, device=device)
        found[f"textbook, {method}"] = partial(_textbook_step, plain, method, device)
    return found


def _textbook_step(plain: Experiment, method: str, device: torch.device) -> TimmStep:
    """timm's loop with a method written out."""
    # the released code adds FeatScale's terms twice in DeiT only
    doubled = plain.model.family is Family.vit
    model = textbook(new_model(plain, seed=0), **{method: True}, doubled=doubled)
    return TimmStep(model, plain, device)


class TimmStep:
    """A step of the same recipe as timm's training script writes it: the batch is normalised,
    erased and mixed on the device; fused AdamW, and a moving average where the recipe has one."""

    def __init__(self, model: nn.Module, config: Experiment, device: torch.device) -> None:
        recipe, data = config.recipe, config.data
        self.model, self.device, self.steps = model.to(device).train(), device, count()
        self.batch = noise(config, device)
        self.precision, self.clip_grad = recipe.precision, recipe.clip_grad
        self.mean = 255 * torch.tensor(data.mean, device=device).view(1, -1, 1, 1)
        self.std = 255 * torch.tensor(data.std, device=device).view(1, -1, 1, 1)
        self.erasing = RandomErasing(recipe.random_erasing, mode="pixel", device=str(device))
        self.mixup = Mixup(
            mixup_alpha=recipe.mixup,
            cutmix_alpha=recipe.cutmix,
            label_smoothing=recipe.label_smoothing,
            num_classes=data.num_classes,
        )
        self.loss = SoftTargetCrossEntropy()
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
        scales = recipe.precision is Precision.float16 and device.type == "cuda"
        self.scaler = torch.amp.GradScaler(device.type, enabled=scales)
        self.ema = ModelEmaV3(model, decay=recipe.ema_decay) if recipe.ema_decay else None

    def __call__(self) -> None:
        """One step."""
        images = self.batch.images.to(self.device, non_blocking=True).float()
        labels = self.batch.labels.to(self.device, non_blocking=True)
        images = self.erasing(images.sub_(self.mean).div_(self.std))
        images, targets = self.mixup(images, labels)
        with autocast(self.device, self.precision):
            outputs = self.model(images)
        loss = self.loss(outputs.float(), targets)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        if self.clip_grad is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.ema is not None:
            self.ema.update(self.model, step=next(self.steps))


def measure(step: OurStep | TimmStep, effort: Effort, device: torch.device) -> dict[str, Any]:
    """Seconds of a step by the clock, of the host until it has launched all, and of the device."""
    on_gpu = device.type == "cuda"

    def wait() -> None:
        if on_gpu:
            torch.cuda.synchronize()

    for _ in range(effort.warm_up):
        step()
    wait()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    walls, hosts = [], []
    for _ in range(effort.rounds):
        start = time.perf_counter()
        for _ in range(effort.steps):
            step()
        wait()
        walls.append((time.perf_counter() - start) / effort.steps)
        start = time.perf_counter()
        step()
        hosts.append(time.perf_counter() - start)
        wait()
    wall, images = spread(walls).median, len(step.batch.images)
    busy = _device_seconds(step, effort.steps) if on_gpu else None
    return {
        "images": images,
        "step_s": walls,
        "host_s": hosts,
        "device_s": busy,
        "waiting": None if busy is None else max(0.0, 1 - busy / wall),
        "images_per_s": images / wall,
        "peak_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
        "planned_bytes": step.planned_bytes if isinstance(step, OurStep) else None,
    }


def _device_seconds(step: Callable[[], object], steps: int) -> float:
    """Seconds of a step in which the device computes or copies, by its own profiler."""
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
    total = sum(event.self_device_time_total for event in profiled.key_averages())
    return float(total) / 1e6 / steps
