"""Utilisation of the machine during an attempt, journaled under MLflow's metric names.

Rank 0 measures its own machine: a run on several nodes shows the first one. CPU and memory are
those of the whole machine; GPUs are the ones that the process may use.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import psutil
import torch

from antioversmooth.background import background_thread
from antioversmooth.runs.metrics import SYSTEM
from antioversmooth.training.run.attempt import Attempt

MIN_INTERVAL = 1 / 100
"""Shortest interval between samples, as a share of the attempt's age: some 700 in three days."""
MEGABYTE = 1e6
"""Bytes in a megabyte, as MLflow counts."""


def sample_system(*, gpus: int) -> dict[str, float]:
    """Utilisation of the CPUs since the last sample; memory and GPUs as of now."""
    memory = psutil.virtual_memory()
    found = {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / MEGABYTE,
        "system_memory_usage_percentage": memory.percent,
    }
    for index in range(gpus):
        # without NVML, or with a driver that restricts it, training works all the same
        with contextlib.suppress(Exception):
            found |= {f"gpu_{index}_{name}": value for name, value in _sample_gpu(index).items()}
    return {f"{SYSTEM}{name}": round(value, 1) for name, value in found.items()}


def _sample_gpu(index: int) -> dict[str, float]:
    """Utilisation of one GPU, as numbered for this process (`CUDA_VISIBLE_DEVICES`)."""
    used = torch.cuda.device_memory_used(index)
    total = torch.cuda.get_device_properties(index).total_memory
    return {
        "utilization_percentage": torch.cuda.utilization(index),
        "memory_usage_megabytes": used / MEGABYTE,
        "memory_usage_percentage": 100 * used / total,
        "power_usage_watts": torch.cuda.power_draw(index) / 1000,
    }


@contextmanager
def system_metrics(attempt: Attempt) -> Iterator[None]:
    """Journals samples from a thread while the block runs, at first every `system_every_s`."""
    every_s = attempt.run.experiment.runtime.system_every_s
    if not attempt.ranks.is_main or every_s <= 0:
        yield
        return
    with background_thread(partial(_record_samples, attempt, every_s), "system"):
        yield


def _record_samples(attempt: Attempt, every_s: float, over: threading.Event) -> None:
    started = time.monotonic()
    gpus = torch.cuda.device_count() if attempt.ranks.device.type == "cuda" else 0
    steps_per_epoch = attempt.run.experiment.steps_per_epoch
    # the first call only starts the measurement
    psutil.cpu_percent()
    while not over.wait(max(every_s, (time.monotonic() - started) * MIN_INTERVAL)):
        # training itself notices and reports a full disk
        with contextlib.suppress(OSError):
            step = attempt.step
            attempt.record(step, epoch=step / steps_per_epoch, **sample_system(gpus=gpus))
