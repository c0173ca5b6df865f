"""Images per second of a model's forward pass, as it stands: no data is read, no weights matter."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

import timm
import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from antioversmooth.config import Experiment, Precision, RuntimeConfig
from antioversmooth.errors import LaunchError, ModelError
from antioversmooth.training.evaluator import autocast
from antioversmooth.training.run.distributed import process_group
from antioversmooth.training.weights.initial import new_model

WARM_UP_PASSES = 3
"""Forward passes before the first one that is timed."""
ROUNDS = 10
ROUND_S = 0.5
"""Length of a round, of at least one forward pass."""


@dataclass(frozen=True)
class Throughput:
    """Images per second on one device, and the circumstances."""

    model: str
    images_per_s: float
    """Median of the rounds."""
    rounds: list[float]
    """Images per second of each round."""
    passes: int
    """Forward passes in a round."""
    warm_up_passes: int
    batch: int
    input: list[int]
    """[channels, height, width]"""
    precision: str
    device: str
    threads: int
    """CPU threads of torch."""

    def record(self) -> dict[str, Any]:
        """The same as JSON."""
        return asdict(self)

    def text(self) -> str:
        """The same for people."""
        shape = " x ".join(map(str, self.input))
        low, high = min(self.rounds), max(self.rounds)
        threads = "" if self.device.startswith("NVIDIA") else f", {self.threads} thread(s)"
        return (
            f"{self.model}: {self.images_per_s:,.1f} images/s"
            f" ({low:,.1f} to {high:,.1f} in {len(self.rounds)} rounds)\n"
            f"batch {self.batch} of {shape}, {self.precision}, {self.device}{threads};"
            f" {self.passes} forward pass(es) a round, {self.warm_up_passes} before the first"
        )


def throughput_of_row(
    experiment: Experiment, *, batch: int, precision: Precision | None = None
) -> Throughput:
    """Images per second of a row's model, with its method in place, in evaluation.

    Args:
        precision: None: that of the recipe. On a CPU it is float32.

    Raises:
        LaunchError: The device has too little memory for the batch.
    """
    side = experiment.model.image_size
    return _measured(
        new_model(experiment, seed=0),
        experiment.title or experiment.row_name,
        [experiment.data.in_channels, side, side],
        batch=batch,
        precision=precision or experiment.recipe.precision,
        runtime=experiment.runtime,
    )


def throughput_of_timm(
    tag: str, *, batch: int, precision: Precision = Precision.float32
) -> Throughput:
    """Images per second of timm's own model of a tag.

    Args:
        tag: As in timm.create_model; nothing is fetched.

    Raises:
        ModelError: timm has no model of that name.
        LaunchError: The device has too little memory for the batch.
    """
    if not timm.is_model(tag.partition(".")[0]):
        raise ModelError(f"timm:{tag}: timm has no model of that name")
    model = timm.create_model(tag)
    shape = list(resolve_model_data_config(model)["input_size"])
    return _measured(
        model, f"timm:{tag}", shape, batch=batch, precision=precision, runtime=RuntimeConfig()
    )


def _measured(
    model: nn.Module,
    name: str,
    shape: list[int],
    *,
    batch: int,
    precision: Precision,
    runtime: RuntimeConfig,
) -> Throughput:
    with process_group(runtime) as ranks, torch.inference_mode():
        model = model.eval().to(ranks.device)
        images = torch.randn(batch, *shape, device=ranks.device)
        with autocast(ranks.device, precision):
            try:
                passes, seconds = _time_rounds(model, images)
            except torch.OutOfMemoryError as err:
                raise LaunchError(
                    f"{name}: {ranks.device_name} has too little memory for a batch of {batch};"
                    " choose a smaller one with --batch"
                ) from err
        rounds = [passes * batch / one for one in seconds]
        on_gpu = ranks.device.type == "cuda"
        return Throughput(
            model=name,
            images_per_s=statistics.median(rounds),
            rounds=rounds,
            passes=passes,
            warm_up_passes=WARM_UP_PASSES,
            batch=batch,
            input=shape,
            precision=(precision if on_gpu else Precision.float32).value,
            device=ranks.device_name,
            threads=torch.get_num_threads(),
        )


def _time_rounds(model: nn.Module, images: Tensor) -> tuple[int, list[float]]:
    """Passes in a round, and the seconds of each round."""
    for _ in range(WARM_UP_PASSES):
        last = _seconds(model, images, passes=1)
    passes = max(1, round(ROUND_S / last))
    return passes, [_seconds(model, images, passes=passes) for _ in range(ROUNDS)]


def _seconds(model: nn.Module, images: Tensor, *, passes: int) -> float:
    """Seconds of some forward passes, until the device is done with them."""
    started = time.perf_counter()
    for _ in range(passes):
        model(images)
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    return time.perf_counter() - started
