"""How busy the machine is while an attempt trains, in the run's journal under MLflow's names.

Measured by the first process of a run, of its own machine: a run on several nodes shows the first
one. CPU and memory are those of the whole machine; GPUs are the ones that the process may use.
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

PART = 100
"""A sample waits for this part of the attempt's age at least: a run of three days has some 700, not
26,000."""
MEGABYTE = 1e6
"""As MLflow counts."""


def sample(*, gpus: int) -> dict[str, float]:
    """Utilisation of the CPUs since the sample before, and what is in use now, of them and of so
    many GPUs."""
    memory = psutil.virtual_memory()
    found = {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / MEGABYTE,
        "system_memory_usage_percentage": memory.percent,
    }
    for index in range(gpus):
        # no NVML, or a driver that keeps it from users: training does without
        with contextlib.suppress(Exception):
            found |= {f"gpu_{index}_{name}": value for name, value in _gpu(index).items()}
    return {f"{SYSTEM}{name}": round(value, 1) for name, value in found.items()}


def _gpu(index: int) -> dict[str, float]:
    """Of one GPU, as numbered for this process (`CUDA_VISIBLE_DEVICES`)."""
    used, total = (
        torch.cuda.device_memory_used(index),
        torch.cuda.get_device_properties(index).total_memory,
    )
    return {
        "utilization_percentage": torch.cuda.utilization(index),
        "memory_usage_megabytes": used / MEGABYTE,
        "memory_usage_percentage": 100 * used / total,
        "power_usage_watts": torch.cuda.power_draw(index) / 1000,
    }


@contextmanager
def watched(attempt: Attempt) -> Iterator[None]:
    """Journals samples meanwhile, from a thread; every `runtime.system_every_s`, and ever more
    seldom as time goes."""
    every_s = attempt.run.experiment.runtime.system_every_s
    if not attempt.ranks.is_main or every_s <= 0:
        yield
        return
    with background_thread(partial(_watch, attempt, every_s), "system"):
        yield


def _watch(attempt: Attempt, every_s: float, over: threading.Event) -> None:
    started = time.monotonic()
    gpus = torch.cuda.device_count() if attempt.ranks.device.type == "cuda" else 0
    steps_per_epoch = attempt.run.experiment.steps_per_epoch
    # the first call only says where counting begins
    psutil.cpu_percent()
    while not over.wait(max(every_s, (time.monotonic() - started) / PART)):
        # a full disk is found out, and told, by what training writes
        with contextlib.suppress(OSError):
            step = attempt.step
            attempt.record(step, epoch=step / steps_per_epoch, **sample(gpus=gpus))
