"""Training steps on a GPU beside timm's, and whether a resumed run is equal to the bit.

`make check-gpu` writes `results/gpu/<device>.json` and `.md`. On a machine without a GPU it is a
rehearsal with tiny models, and writes nothing without `--output`.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.mixup import Mixup
from timm.data.random_erasing import RandomErasing
from timm.loss import SoftTargetCrossEntropy
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from antioversmooth import files, spec
from antioversmooth.config import Compiler, Experiment, Precision
from antioversmooth.project import find_root
from antioversmooth.runs import Run
from antioversmooth.training.data.loading import OK, Batch
from antioversmooth.training.data.sampling import MicroBatches, SampleOrder
from antioversmooth.training.evaluator import autocast
from antioversmooth.training.run.checkpoint import load_state
from antioversmooth.training.run.distributed import RankInfo, Ranks
from antioversmooth.training.step.learner import Learner
from antioversmooth.training.weights.initial import new_model
from benchmarks.models import SCALINGS
from benchmarks.suite import machine
from benchmarks.textbook import textbook
from benchmarks.timing import spread

Step = Callable[[int], object]
"""Takes the training step of a number."""
ROWS = ("deit_s24", "cait_s24", "swin_s")
VARIANTS = ("", *(f"_{method}" for method in SCALINGS))
# mixing as at full size, where the mini's 24 layers have none
TINY = ("profile=mini", "recipe.mixup=0.2", "recipe.cutmix=0.2", "recipe.mix_prob=1.0")
WARM_UP = 4
ROUNDS = 3


@dataclass(frozen=True)
class Effort:
    """Size and number of the measured steps."""

    batch: int = 128
    """Images per step; DeiT's 24 layers train on 2 x 256, CaiT on 2 x 128."""
    steps: int = 10
    """Steps per round."""
    overrides: tuple[str, ...] = ()


REHEARSAL = Effort(batch=16, steps=1, overrides=TINY)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints the tables and writes them; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: results/gpu/")
    parser.add_argument("--batch", type=int, metavar="N", help="images per step; default: 128")
    args = parser.parse_args(arguments)
    root, has_gpu = find_root(), torch.cuda.is_available()
    device = torch.device("cuda", 0) if has_gpu else torch.device("cpu")
    effort = Effort(batch=args.batch or Effort.batch) if has_gpu else REHEARSAL
    measured = measure(root, effort, device)
    text = markdown(measured)
    print(text)
    folder = args.output or (root / "results" / "gpu" if has_gpu else None)
    if folder is not None:
        name = re.sub(r"[^a-z0-9]+", "-", measured["machine"]["device"].lower()).strip("-")
        files.write_json(folder / f"{name}.json", measured)
        files.write_atomic(folder / f"{name}.md", text)
    return 0


def measure(root: Path, effort: Effort, device: torch.device) -> dict[str, Any]:
    """The content of the JSON file.

    Args:
        root: Holds `experiments/`.
    """
    rows = {
        name: compare(
            spec.load_experiment(root / "experiments" / f"{name}.yaml", overrides_of(effort)),
            effort,
            device,
        )
        for name in (f"{row}{variant}" for row in ROWS for variant in VARIANTS)
        if (root / "experiments" / f"{name}.yaml").is_file()
    }
    with tempfile.TemporaryDirectory() as folder:
        resumed = resumes_exactly(root, Path(folder), on_gpu=device.type == "cuda")
    return {
        "machine": {**machine(device), "batch": effort.batch, "steps": effort.steps},
        "rows": rows,
        "resume": resumed,
    }


def overrides_of(effort: Effort) -> list[str]:
    """The batch of the measurement in one micro-batch; all else as the row says."""
    return [*effort.overrides, f"recipe.global_batch={effort.batch}"]


def compare(config: Experiment, effort: Effort, device: torch.device) -> dict[str, Any]:
    """Times and memory of a row's training step, of timm's plain model, and of the textbook form.

    The input is on the device's host as bytes, as a loader delivers it.
    """
    found = {}
    for name, build in _builders(config, effort, device).items():
        step = build()
        found[name] = _measure(step, effort, device)
        del step
    return found


def _builders(
    config: Experiment, effort: Effort, device: torch.device
) -> dict[str, Callable[[], Step]]:
    size, channels = config.model.image_size, config.data.in_channels
    images = torch.randint(0, 256, (effort.batch, channels, size, size), dtype=torch.uint8)
    labels = torch.randint(0, config.data.num_classes, (effort.batch,))
    if device.type == "cuda":
        images, labels = images.pin_memory(), labels.pin_memory()
    batch = Batch(images, labels, torch.full((effort.batch,), OK))
    builders: dict[str, Callable[[], Step]] = {
        "ours": lambda: _our_step(config, batch, device),
        "timm": lambda: TimmStep(_model(config, explicit=False), config, batch, device),
    }
    if config.model.method != "none":
        builders["textbook"] = lambda: TimmStep(
            _model(config, explicit=True), config, batch, device
        )
    return builders


def _model(config: Experiment, *, explicit: bool) -> nn.Module:
    """The row's backbone without its method, or with the method written out."""
    method = config.model.method
    plain = new_model(without_method(config), seed=0)
    is_vit = config.model.family.value == "vit"
    return textbook(plain, **{method: True}, doubled=is_vit) if explicit else plain


def without_method(config: Experiment) -> Experiment:
    """The row's experiment with the plain backbone."""
    return replace(config, model=replace(config.model, method="none", method_options={}))


def _our_step(config: Experiment, batch: Batch, device: torch.device) -> Step:
    recipe = config.recipe
    model = new_model(config, seed=0).to(device)
    order = SampleOrder.of(config, seed=0)
    micro = MicroBatches(order, recipe.global_batch, 1, 0, 0, order.steps_per_epoch)
    learner = Learner(
        model,
        recipe,
        config.data,
        micro,
        Ranks(RankInfo(0, 1, 0, 1, "alone"), device, None),
        teacher=None,
        compiler=Compiler.none,
        seed=0,
    )
    return lambda step: learner.train_step(step, repeat(batch))


class TimmStep:
    """A step of the same recipe as timm's training script writes it: the batch is normalised,
    erased and mixed on the device; fused AdamW, and a moving average where the recipe has one."""

    def __init__(
        self, model: nn.Module, config: Experiment, batch: Batch, device: torch.device
    ) -> None:
        recipe, data = config.recipe, config.data
        self.model, self.batch, self.device = model.to(device).train(), batch, device
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

    def __call__(self, step: int) -> None:
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
            self.ema.update(self.model, step=step)


def _measure(step: Step, effort: Effort, device: torch.device) -> dict[str, Any]:
    """Seconds of a step by the clock, of the host until it has launched all, and of the device."""
    on_gpu = device.type == "cuda"

    def wait() -> None:
        if on_gpu:
            torch.cuda.synchronize()

    for number in range(WARM_UP if on_gpu else 1):
        step(number)
    wait()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    walls, hosts = [], []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for number in range(effort.steps):
            step(number)
        wait()
        walls.append((time.perf_counter() - start) / effort.steps)
        start = time.perf_counter()
        step(0)
        hosts.append(time.perf_counter() - start)
        wait()
    wall = spread(walls).median
    busy = _device_seconds(step, effort.steps) if on_gpu else None
    return {
        "step_s": walls,
        "host_s": hosts,
        "device_s": busy,
        "waiting": None if busy is None else max(0.0, 1 - busy / wall),
        "images_per_s": effort.batch / wall,
        "peak_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
    }


def _device_seconds(step: Step, steps: int) -> float:
    """Seconds of a step in which the device computes or copies, by its own profiler."""
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        for number in range(steps):
            step(number)
        torch.cuda.synchronize()
    total = sum(event.self_device_time_total for event in profiled.key_averages())
    return float(total) / 1e6 / steps


SMALL = (
    "model.image_size=64",
    "data.num_train=512",
    "data.num_val=64",
    "data.num_classes=8",
    "data.fingerprint=''",
    "recipe.warmup_epochs=1",
    "recipe.global_batch=64",
    "recipe.mix_group=16",
    "recipe.dropout=0.1",
    "runtime.workers=2",
    "runtime.log_every=1",
)
"""32 steps of a full-width DeiT on small photographs, with the whole recipe on."""


def resumes_exactly(root: Path, folder: Path, *, on_gpu: bool) -> dict[str, Any]:
    """Compares a straight run with its repetition, and with one that stopped and resumed.

    Returns:
        For each, the number of values of the final checkpoint that differ, of how many.
    """
    _write_images(folder / "images")
    depth = ["recipe.epochs=4"] if on_gpu else ["model.depth=1", "recipe.epochs=2"]
    given = [*SMALL, *depth, f"data.root={folder / 'images'}"]

    def trained(name: str, *stops: int) -> dict[str, Any]:
        for stop in (*stops, 0):
            overrides = [*given, f"runtime.max_steps={stop}"] if stop else given
            request = spec.load([root / "experiments" / "deit_s12_featscale.yaml"], overrides)
            (run,) = request.plan([0], folder / name)
            _train(run)
        return load_state(run.checkpoints()[0].path)

    straight = trained("straight")
    return {
        "repeated": differing(straight, trained("repeated")),
        "resumed": differing(straight, trained("resumed", 5, 11)),
    }


def _train(run: Run) -> None:
    """Trains in a process of its own, as a launch does."""
    run.prepare()
    command = [sys.executable, "-m", "antioversmooth.training", str(run.dir)]
    done = subprocess.run(command, env={**os.environ}, capture_output=True, text=True)
    if done.returncode not in (0, os.EX_TEMPFAIL):
        raise RuntimeError(f"training ended with {done.returncode}: {done.stderr}")


def _write_images(folder: Path) -> None:
    """JPEG files of 8 classes, each a smooth field of its own and noise."""
    random = np.random.default_rng(0)
    for split, number in (("train", 64), ("val", 8)):
        for label in range(8):
            place = folder / split / f"class{label}"
            place.mkdir(parents=True)
            base = np.sin(np.arange(96) * (label + 1) / 8)[:, None, None]
            for index in range(number):
                pixels = 128 + 60 * base + 40 * random.standard_normal((96, 96, 3))
                image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
                image.save(place / f"{index:03}.jpg")


def differing(ours: dict[str, Any], other: dict[str, Any]) -> dict[str, int]:
    """Number of values that differ, but for times, and of all."""
    left, right = (dict(_values(state)) for state in (ours, other))
    names = [name for name in {**left, **right} if "epoch_s" not in name]
    differ = [n for n in names if n not in left or n not in right or not _equal(left[n], right[n])]
    return {"differ": len(differ), "of": len(names)}


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return torch.equal(left, right)
    return bool(left == right)


def _values(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _values(inner, f"{name}.{key}")
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            yield from _values(inner, f"{name}[{number}]")
    else:
        yield name, value


def markdown(measured: dict[str, Any]) -> str:
    """The tables."""
    where = ", ".join(f"{key} {value}" for key, value in measured["machine"].items())
    lines = [
        "# Training steps on a GPU",
        "",
        f"Made by `make check-gpu`. {where}.",
        "",
        "A step normalises, erases and mixes a batch of bytes, and takes forward, backward, AdamW"
        " and the moving average, as the row's recipe says. `timm` is the plain backbone in a loop"
        " as timm's training script has it; `textbook` is that loop with the method written out."
        " Host: until the last kernel of a step is launched. Device: kernels and copies, by the"
        " profiler. Waiting: share of a step's time in which the device does neither.",
        "",
        "| row | loop | images/s | x timm | step (ms) | host (ms) | device (ms) | waiting"
        " | peak memory (GiB) |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row, loops in measured["rows"].items():
        base = loops["timm"]["images_per_s"]
        for name, found in loops.items():
            cells = [
                row,
                name,
                f"{found['images_per_s']:.0f}",
                f"{found['images_per_s'] / base:.2f}",
                _ms(spread(found["step_s"]).median),
                _ms(spread(found["host_s"]).median),
                _ms(found["device_s"]),
                "-" if found["waiting"] is None else f"{found['waiting']:.0%}",
                "-" if found["peak_bytes"] is None else f"{found['peak_bytes'] / 2**30:.1f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Final checkpoints of a DeiT-S with FeatScale, 32 steps of the whole recipe:", ""]
    for name, found in measured["resume"].items():
        lines.append(f"- {name}: {found['differ']} of {found['of']} values differ from a straight"
                     " run's.")  # fmt: skip
    return "\n".join(lines) + "\n"


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.1f}"


if __name__ == "__main__":
    sys.exit(main())
