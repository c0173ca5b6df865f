"""Steps of a run's real model at its real batch: speed, memory, and what the data must deliver."""

from __future__ import annotations

import math
import resource
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import repeat
from typing import Any

import torch

from antioversmooth import runs
from antioversmooth.config import Experiment
from antioversmooth.config.runtime import Compiler
from antioversmooth.errors import CheckpointError, SpecError
from antioversmooth.finding import Finding, Place
from antioversmooth.runs import Run, machine
from antioversmooth.training.data.loading import OK, Batch
from antioversmooth.training.data.sampling import MicroBatches
from antioversmooth.training.probes import inputs
from antioversmooth.training.probes.context import Context, ok, warning, wrong
from antioversmooth.training.probes.request import TRAINING_SPEED, Speed
from antioversmooth.training.run.distributed import Ranks
from antioversmooth.training.step.distillation import Teacher, load_teacher, untrained_teacher
from antioversmooth.training.step.learner import Learner
from antioversmooth.training.weights.initial import new_model

WARM_UP = 2
"""Steps before the measured ones: memory, kernels and the compiler settle."""
FEWEST, MOST = 3, 50
"""Measured steps."""


def look(context: Context) -> Iterator[Finding]:
    """Takes steps on random pixels, and compares their speed with that of loading."""
    run, ranks = context.run, context.established.ranks
    assert run is not None
    if ranks is None:
        if context.is_main:
            text = "not measured, since the ranks are not connected"
            yield warning(TRAINING_SPEED, text, "mend the network first", Place.model)
        return
    micro_batches = MicroBatches.of(
        run.experiment, seed=run.seed, rank=ranks.rank, world_size=ranks.world_size
    )
    try:
        step_s, remarks = _measure(context, run, ranks, micro_batches)
    except RuntimeError as err:
        # torch.OutOfMemoryError of a GPU; a RuntimeError like any other of the host
        if not isinstance(err, torch.OutOfMemoryError) and "alloc" not in str(err):
            raise
        yield out_of_memory(run.experiment, micro_batches, ranks, str(err))
        return
    yield from remarks
    peaks = context.exchange.gather(_peak_bytes(ranks))
    loading = context.exchange.gather(context.established.views_per_s)
    rates = context.exchange.gather(context.established.rates)
    if ranks.is_main:
        slowest = None if None in loading else min(loading)
        peak = max(device for device, _ in peaks), max(host for _, host in peaks)
        speed = describe(run, ranks, micro_batches, step_s, peak, slowest)
        yield speed
        if all(rates):
            yield from inputs.describe(
                rates,
                images_per_s=speed.values["step_images_per_s"],
                devices=ranks.world_size,
                workers=speed.values["workers"],
            )


def _measure(
    context: Context, run: Run, ranks: Ranks, micro_batches: MicroBatches
) -> tuple[float, list[Finding]]:
    """Median seconds of a step, and remarks about it."""
    config = run.experiment
    if ranks.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    model: Any = new_model(config, run.seed).to(ranks.device)
    model.set_grad_checkpointing(config.runtime.gradient_checkpointing)
    teacher, remarks = _teacher(context, run, ranks)
    learner = Learner(
        model,
        config.recipe,
        config.data,
        micro_batches,
        ranks,
        teacher=teacher,
        compiler=config.runtime.compile,
        seed=run.seed,
    )
    batches = repeat(_random_batch(config, micro_batches.size))
    times = [_timed_step(learner, 0, batches)]
    is_plain_cpu = ranks.device.type == "cpu" and config.runtime.compile is Compiler.none
    # where a step takes so long, there is little to settle, and no time for others
    if is_plain_cpu and max(context.exchange.gather(times[0])) > context.request.limit_s:
        return times[0], remarks
    times = [_timed_step(learner, step, batches) for step in range(1, WARM_UP)]
    # the same number on all ranks, whose steps wait for each other
    wanted = int(context.request.measure_s / max(times[-1], 1e-6))
    steps = context.exchange.gather(max(FEWEST, min(MOST, wanted)))[0]
    times = [_timed_step(learner, WARM_UP + step, batches) for step in range(steps)]
    return statistics.median(times), remarks


def late(context: Context, limit_s: float) -> Finding | None:
    """The finding that a CPU is slow; None on a GPU, where a step hangs instead."""
    run, ranks = context.run, context.established.ranks
    if run is None or ranks is None or ranks.device.type != "cpu":
        return None
    text = f"one step takes longer than {limit_s:g} s on this CPU"
    advice = "use profile=mini here, or measure on the nodes: doctor --cluster NAME"
    return warning(TRAINING_SPEED, text, advice, Place.model, run=str(run.dir))


def _teacher(context: Context, run: Run, ranks: Ranks) -> tuple[Teacher | None, list[Finding]]:
    """The teacher of a run, and a remark where it has no weights yet."""
    dataset = context.established.dataset
    try:
        return load_teacher(run, dataset.classes if dataset else (), ranks), []
    except CheckpointError as err:
        if run.teacher is None:
            raise
        text = f"the speed is that of a teacher with random weights: {err}"
        advice = f"train {run.teacher.name} first; a launch does so by itself"
        remark = warning("teacher", text, advice, Place.model)
        return untrained_teacher(run).to(ranks.device), [remark] if ranks.is_main else []


def _random_batch(config: Experiment, size: int) -> Batch:
    side, channels = config.model.image_size, config.data.in_channels
    images = torch.randint(0, 256, (size, channels, side, side), dtype=torch.uint8)
    labels = torch.randint(0, config.data.num_classes, (size,))
    if torch.cuda.is_available():
        images, labels = images.pin_memory(), labels.pin_memory()
    return Batch(images, labels, torch.full((size,), OK))


def _timed_step(learner: Learner, step: int, batches: Iterator[Batch]) -> float:
    """Seconds of one step, until the device is done with it."""
    started = time.perf_counter()
    learner.train_step(step, batches)
    if learner.ranks.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _peak_bytes(ranks: Ranks) -> tuple[int, int]:
    """Most memory in use so far, of the GPU (0 on CPUs) and of this process on the host."""
    host = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return torch.cuda.max_memory_allocated() if ranks.device.type == "cuda" else 0, host


def out_of_memory(
    config: Experiment, micro_batches: MicroBatches, ranks: Ranks, said: str
) -> Finding:
    """The finding that a step does not fit, with the next smaller micro-batch that divides."""
    size = micro_batches.size
    advice = "runtime.gradient_checkpointing=true needs less memory, and gives the same numbers"
    try:
        smaller, _ = runs.split_batch(
            config.recipe.global_batch,
            ranks.world_size,
            limit=size // 2,
            group=config.inseparable,
        )
        if smaller < size:
            advice = f"take fewer samples at a time, runtime.device_batch={smaller}; or {advice}"
    except SpecError:
        # no smaller part divides
        pass
    return wrong(
        TRAINING_SPEED,
        f"a pass of {size} samples does not fit into the memory of {ranks.device_name}:"
        f" {said.splitlines()[0]}",
        advice,
        Place.model,
        device_batch=size,
    )


def describe(
    run: Run,
    ranks: Ranks,
    micro_batches: MicroBatches,
    step_s: float,
    peak_bytes: tuple[int, int],
    views_per_s: float | None,
) -> Finding:
    """The finding of the speed of a run, by its steps and by its loading.

    Args:
        peak_bytes: Most memory in use, of a GPU (0 on CPUs) and of a process on the host.
        views_per_s: Views that one core makes in a second; None: not measured.
    """
    config = run.experiment
    size = micro_batches.size * micro_batches.accumulation_steps
    stepped = size / step_s
    workers = machine.loading_processes(
        config.runtime.workers,
        ranks.info.cpus,
        config.model.image_size,
        in_memory=config.data.source.in_memory,
    )
    reached = together(stepped, views_per_s, workers)
    text = (
        f"{stepped:,.0f} images/s and device on {ranks.world_size} x {ranks.device_name}:"
        f" {step_s:.3g} s a step of {config.recipe.global_batch},"
        f" {micro_batches.accumulation_steps} x {micro_batches.size} samples a device;"
        f" peak memory {_gib(peak_bytes)}"
    )
    values = {
        **asdict(_speed(run, ranks, micro_batches.size, peak_bytes, reached)),
        "step_images_per_s": round(stepped, 2),
        "step_s": step_s,
        "views_per_s_per_core": views_per_s,
        "workers": workers,
    }
    if views_per_s is None or reached > SLOWED_BY_LOADING * stepped:
        return ok(TRAINING_SPEED, text, Place.model, **values)
    cores = math.ceil(stepped / views_per_s)
    return warning(
        TRAINING_SPEED,
        f"{text}; loading lets it reach {reached:,.0f} images/s: {workers} loading processes make"
        f" {max(workers, 1) * views_per_s:,.0f} views/s",
        f"give each device {cores + 1} CPUs (cluster.cpus_per_task), {cores} of them for loading",
        Place.model,
        **values,
    )


def _gib(peak_bytes: tuple[int, int]) -> str:
    """Peak memory of a GPU, if there is one, and of a process, for people."""
    device, host = (size / 2**30 for size in peak_bytes)
    return f"{device:.1f} GiB a GPU, {host:.1f} GiB a process" if device else f"{host:.1f} GiB"


SLOWED_BY_LOADING = 0.95
"""Part of the speed of the steps below which loading counts as the bottleneck."""


def together(stepped: float, views_per_s: float | None, workers: int) -> float:
    """Images a second that a device reaches, with its loading processes beside it.

    Args:
        stepped: Images a second that the steps take.
        views_per_s: Views that one core makes in a second; None: not measured, and no limit.
        workers: Loading processes; 0: the process that trains makes the views, in between.
    """
    if views_per_s is None:
        return stepped
    if not workers:
        return 1 / (1 / stepped + 1 / views_per_s)
    return min(stepped, workers * views_per_s)


def _speed(
    run: Run, ranks: Ranks, device_batch: int, peak_bytes: tuple[int, int], images_per_s: float
) -> Speed:
    """Numbers of a measured run that estimates read."""
    return Speed(
        run=str(run.dir),
        images_per_s=round(images_per_s, 2),
        device_name=ranks.device_name,
        device_type=ranks.device.type,
        processes=ranks.world_size,
        device_batch=device_batch,
        device_memory_gb=round(peak_bytes[0] / 2**30, 3),
        host_memory_gb=round(peak_bytes[1] / 2**30, 3),
    )
