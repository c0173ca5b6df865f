"""Needs of training besides devices: shared memory, open files, a compiler.

A launch on this machine asks before it starts anything, and each attempt asks on its own node.
"""

from __future__ import annotations

import math
import os
import resource
import shutil
from pathlib import Path
from typing import NamedTuple

from antioversmooth.config import Compiler, DataConfig, Experiment
from antioversmooth.errors import LaunchError

SHARED_MEMORY = Path("/dev/shm")
"""Memory through which loading processes hand over their batches, on Linux."""
BATCHES_AHEAD = 2
"""Batches that a loading process makes ahead; torch's default."""
MAX_SIDE_IN_MEMORY = 64
"""Largest side in pixels at which views of in-memory images need no loading processes."""
FILES_OF_A_PROCESS = 256
"""Open files of a process that trains, without those of its loading processes."""
SEMAPHORES, SEMAPHORES_OF_A_LOADER = 8, 3
"""Semaphores of the loading processes of a split, and of each of them; a page each."""
FILES_OF_A_LOADER = 5 + 3 * BATCHES_AHEAD
"""Open files for each loading process: its pipes, and three tensors for each of its batches."""


def loading_processes(wanted: int, cpus: int, side: int, *, in_memory: bool) -> int:
    """Loading processes for each device.

    One CPU is for the process that trains. A small view of an image in memory is made faster than
    it is passed between processes.

    Args:
        wanted: `runtime.workers`.
        cpus: CPUs of the process that trains and its loading processes.
        side: Side of a view in pixels.
    """
    if wanted >= 0:
        return wanted
    return 0 if in_memory and side <= MAX_SIDE_IN_MEMORY else cpus - 1


def shared_bytes(data: DataConfig, side: int, views: int, *, workers: int, batches: int) -> int:
    """Most shared memory that the batches of a split take at a time, in bytes.

    Args:
        side: Side of a view in pixels.
        views: Views of a batch.
        workers: Loading processes.
        batches: Batches of the whole split.
    """
    page = resource.getpagesize()
    # images, labels, corrupt
    tensors = (views * data.in_channels * side**2, 8 * views, 8 * views)
    of_batch = sum(math.ceil(size / page) for size in tensors)
    # and two in the process that trains: the one before goes once the next is there
    at_a_time = min(BATCHES_AHEAD * workers + 2, batches)
    semaphores = SEMAPHORES + SEMAPHORES_OF_A_LOADER * workers
    return page * (at_a_time * of_batch + semaphores) if workers else 0


class LoadingNeeds(NamedTuple):
    """Needs of the loading processes of a run on one machine."""

    shared_bytes: int
    """Shared memory of all of them."""
    workers: int
    """Loading processes of each process that trains, for one split."""
    all_workers: int
    """The same for all splits, which are there at the same time."""


def loading_needs(
    config: Experiment,
    *,
    world_size: int,
    processes: int,
    cpus: int,
    device_batch: int,
    accumulation: int,
    in_memory: bool,
) -> LoadingNeeds:
    """Needs of the loading processes of a run.

    Args:
        world_size: Processes that train, on all machines.
        processes: Those of them on this machine.
        cpus: CPUs of each, with its loading processes.
        device_batch: Samples of a process in one pass.
        accumulation: Passes in an optimizer step.
        in_memory: Whether the images of the data set are in memory.
    """
    runtime, side = config.runtime, config.model.image_size
    workers = loading_processes(runtime.workers, cpus, side, in_memory=in_memory)
    evaluated = math.ceil(config.data.num_val / world_size)
    eval_batch = min(runtime.eval_batch, evaluated)
    # views of a batch, and batches
    splits = [(eval_batch, math.ceil(evaluated / eval_batch))]
    if config.recipe.epochs:
        splits += [(device_batch, config.total_steps * accumulation)]
    shared = processes * sum(
        shared_bytes(config.data, side, views, workers=workers, batches=batches)
        for views, batches in splits
    )
    return LoadingNeeds(shared, workers, len(splits) * workers)


def check_shared_memory(needed: int, workers: int) -> None:
    """Checks that this machine has room for the batches of loading processes.

    Args:
        needed: Bytes for all processes of a run on this machine.
        workers: Loading processes for each device.

    Raises:
        LaunchError: It has less.
    """
    if workers and SHARED_MEMORY.exists() and needed > free_shared_memory():
        raise LaunchError(
            f"the batches of {workers} loading processes a device need"
            f" {_size(needed)} of shared memory; {shared_memory_advice()}"
        )


def free_shared_memory() -> int:
    """Bytes of shared memory that are free."""
    there = os.statvfs(SHARED_MEMORY)
    return there.f_bavail * there.f_frsize if os.access(SHARED_MEMORY, os.W_OK) else 0


def _size(number: int) -> str:
    return f"{number / 2**20:,.1f} MiB" if number >= 2**20 else f"{number / 2**10:,.0f} KiB"


def shared_memory_advice() -> str:
    """The shared memory that is free, and how to get more or to need less."""
    free = _size(free_shared_memory()) if SHARED_MEMORY.exists() else "nothing"
    return (
        f"{SHARED_MEMORY} has {free} free. Give the container more (docker run --shm-size=16g, or"
        " --ipc=host; on Kubernetes an emptyDir of medium Memory at /dev/shm), or need less with"
        " fewer runtime.workers; with 0 none is needed"
    )


def check_open_files(workers: int) -> int:
    """Open files that a process needs with so many loading processes.

    Raises:
        LaunchError: It may not have as many open.
    """
    needed = FILES_OF_A_PROCESS + FILES_OF_A_LOADER * workers
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if workers and hard != resource.RLIM_INFINITY and hard < needed:
        raise LaunchError(
            f"{workers} loading processes need {needed} open files; {open_files_advice()}"
        )
    return needed


def raise_open_files(workers: int) -> None:
    """Raises this process's own limit of open files to what so many loading processes need.

    Raises:
        LaunchError: The limit for it is lower.
    """
    needed = check_open_files(workers)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if workers and soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def open_files_advice() -> str:
    """The limit of open files, and how to get more or to need less."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        f"this process may open {hard}. Raise the limit (ulimit -n; on SLURM in cluster.setup;"
        " docker run --ulimit nofile=65536), or need less with fewer runtime.workers"
    )


def check_compiler(compiler: Compiler, *, on_gpu: bool) -> None:
    """Checks that there is a compiler for the code that `runtime.compile` generates.

    Raises:
        LaunchError: There is none.
    """
    if not compiler.generates_code:
        return
    variable, usual = ("CC", ["gcc", "clang", "cc"]) if on_gpu else ("CXX", ["g++"])
    given = os.environ.get(variable)
    if not any(shutil.which(name) for name in ([given] if given else usual)):
        language, package = ("C", "gcc") if on_gpu else ("C++", "g++")
        raise LaunchError(
            f"runtime.compile={compiler.value} needs a {language} compiler, and"
            f" {given or usual[0]} is not in the path; install one (apt-get install {package}, or a"
            f" module in cluster.setup), name it in {variable}, or train with runtime.compile=none"
        )
