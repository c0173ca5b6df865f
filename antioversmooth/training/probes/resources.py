"""CPUs, memory, shared memory and open files of a node, beside what the profile promises."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from antioversmooth.errors import LaunchError
from antioversmooth.finding import Finding
from antioversmooth.runs import Run, machine
from antioversmooth.training.data.sampling import MicroBatches
from antioversmooth.training.probes.context import Context, ok, warning, wrong

CGROUPS = Path("/sys/fs/cgroup")
SMALL_SHARED_MEMORY = 2**30
"""Bytes of /dev/shm below which loading processes of a usual run get no room."""


def look_at_cpus(context: Context) -> Iterator[Finding]:
    """Compares the CPUs that this rank may use with those of the profile."""
    there, promised = len(os.sched_getaffinity(0)), context.request.cpus_per_task
    values: dict[str, Any] = {"cpus": there, "cpus_per_task": promised}
    if there < promised:
        yield warning(
            "CPUs",
            f"rank {context.info.rank} may use {there} of the {promised} CPUs of its task: it is"
            " bound to them",
            "srun binds tasks: check --cpus-per-task and SLURM_CPU_BIND, and what in cluster.setup"
            " calls taskset or numactl",
            **values,
        )
        return
    asked = f", {promised} promised" if promised else ""
    yield ok("CPUs", f"{there}{asked}", **values)


def look_at_memory(context: Context) -> Iterator[Finding]:
    """Compares the memory that the ranks of this node may use with that of the profile."""
    limits = [psutil.virtual_memory().total, *cgroup_limits()]
    limit, promised = min(limits), context.request.mem_gb * 2**30
    values: dict[str, Any] = {"memory_bytes": limit}
    # the kernel keeps some of a node's memory for itself
    if limit < 0.9 * promised:
        yield wrong(
            "memory",
            f"the limit is {limit / 2**30:.1f} GiB, and cluster.mem_gb asks for"
            f" {promised / 2**30:.1f} GiB",
            "ask for what a node has: scontrol show node says it (RealMemory)",
            **values,
        )
        return
    free = psutil.virtual_memory().available
    yield ok(
        "memory",
        f"limit {limit / 2**30:.1f} GiB, {free / 2**30:.1f} GiB free on the node",
        **values,
    )


def cgroup_limits(process: Path = Path("/proc/self/cgroup")) -> Iterator[int]:
    """Limits in bytes of the control groups around this process, of both versions of cgroup."""
    try:
        lines = process.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if number != "0" and "memory" not in controllers.split(","):
            continue
        root = CGROUPS if number == "0" else CGROUPS / "memory"
        file = "memory.max" if number == "0" else "memory.limit_in_bytes"
        folder = root / name.lstrip("/")
        for group in (folder, *folder.parents):
            if not group.is_relative_to(root):
                break
            try:
                text = (group / file).read_text().strip()
            except OSError:
                # of a root, or outside of this namespace
                continue
            if text.isdecimal():
                yield int(text)


def look_at_shared_memory(context: Context) -> Iterator[Finding]:
    """Compares shared memory with the needs of the runs' loading processes."""
    free = machine.free_shared_memory() if machine.SHARED_MEMORY.exists() else 0
    text = f"{machine.SHARED_MEMORY} has {free / 2**20:,.0f} MiB free"
    found: dict[str, Any] = {"shared_memory_bytes": free}
    needs = max((_needs(context, run) for run in context.runs), default=None)
    if needs is None:
        if free < SMALL_SHARED_MEMORY:
            advice = machine.shared_memory_advice().partition(". ")[2]
            yield warning("shared memory", text, advice, **found)
            return
    else:
        text = f"{text}; loading processes need {needs.shared_bytes / 2**20:,.0f} MiB"
        try:
            machine.check_shared_memory(needs.shared_bytes, needs.workers)
        except LaunchError as err:
            text, _, advice = str(err).partition(". ")
            yield wrong("shared memory", text, advice, **found)
            return
    yield ok("shared memory", text, **found)


def look_at_open_files(context: Context) -> Iterator[Finding]:
    """Compares the limit of open files with the needs of the runs' loading processes."""
    workers = max((_needs(context, run).all_workers for run in context.runs), default=0)
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    found: dict[str, Any] = {"open_files": limit}
    try:
        needed = machine.check_open_files(workers)
    except LaunchError as err:
        text, _, advice = str(err).partition(". ")
        yield wrong("open files", text, advice, **found)
        return
    allowed = "any number" if limit == resource.RLIM_INFINITY else f"{limit:,}"
    yield ok("open files", f"{allowed} for a process, which needs {needed:,}", **found)


def _needs(context: Context, run: Run) -> machine.LoadingNeeds:
    """Needs of the loading processes of a run on this node."""
    config, info = run.experiment, context.info
    micro_batches = MicroBatches.of(
        config, seed=run.seed, rank=info.rank, world_size=info.world_size
    )
    return machine.loading_needs(
        config,
        world_size=info.world_size,
        processes=info.local_world_size,
        cpus=info.cpus,
        device_batch=micro_batches.size,
        accumulation=micro_batches.accumulation_steps,
        in_memory=config.data.source.in_memory,
    )
