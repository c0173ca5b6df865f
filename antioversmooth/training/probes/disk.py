"""Space and speed of the results folder, beside the checkpoints that a run writes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from antioversmooth import files
from antioversmooth.config import RuntimeConfig
from antioversmooth.finding import Finding
from antioversmooth.runs import Run
from antioversmooth.runs.checkpoints import BYTES_PER_PARAMETER, CHECKPOINTS_OF_A_RUN
from antioversmooth.training.probes.context import Context, ok, warning, wrong
from antioversmooth.training.run.attempt import is_full
from antioversmooth.training.weights.initial import new_model

USUAL_BYTES = 2**28
"""Size of a checkpoint where no run is named, near that of a DeiT-S."""
LEAST_BYTES, MOST_BYTES = 2**24, 2**30
"""Bytes that are written to measure the speed."""
MEGABYTE = 1e6
FEW_FILES = 1000
SLOW_SHARE = 0.1
"""Part of the time between two checkpoints that writing one may take."""


def checkpoint_bytes(context: Context) -> int:
    """Size of the largest checkpoint of the runs; without a run that of a usual one."""
    return max(map(_checkpoint_bytes, context.runs), default=USUAL_BYTES)


def _checkpoint_bytes(run: Run) -> int:
    with torch.device("meta"):
        model = new_model(run.experiment, run.seed)
    return BYTES_PER_PARAMETER * sum(p.numel() for p in model.parameters())


def look_at_space(context: Context) -> Iterator[Finding]:
    """Compares free space and files with what one run needs."""
    there = os.statvfs(context.folder)
    free, needed = there.f_bavail * there.f_frsize, CHECKPOINTS_OF_A_RUN * checkpoint_bytes(context)
    text = f"{free / 2**30:,.1f} GiB free at {context.folder}"
    values: dict[str, Any] = {"free_bytes": free, "needed_bytes": needed}
    if free < needed:
        yield wrong(
            "space",
            f"{text}; the checkpoints of one run need {needed / 2**30:,.1f} GiB",
            "make room, or choose another folder with cluster.results=/path",
            **values,
        )
    else:
        yield ok("space", text, **values)
    # 0 files in all: the file system counts none
    if there.f_files and there.f_favail < FEW_FILES:
        yield wrong(
            "files",
            f"{there.f_favail} more files fit into {context.folder} (inodes)",
            "delete files, or choose another folder with cluster.results=/path",
        )


def look_at_checkpoint(context: Context) -> Iterator[Finding]:
    """Writes as many bytes as a checkpoint has, as it is written, and reads them elsewhere."""
    size = checkpoint_bytes(context)
    path = context.folder / "checkpoint"
    written_s, problem = _write(path, _part(size)) if context.is_main else (0.0, None)
    together = context.exchange.gather([context.host, problem is None])
    if not together[0][1]:
        if problem is not None:
            yield problem
        return
    reader = next((r for r, (host, _) in enumerate(together) if host != together[0][0]), 0)
    read_s = _read(path) if context.info.rank == reader else 0.0
    times = context.exchange.gather(read_s)
    if context.is_main:
        path.unlink()
        yield _judge(context, size, written_s, times[reader], together[reader][0])


def _part(size: int) -> int:
    """Bytes that are written to measure how long a checkpoint takes."""
    return max(LEAST_BYTES, min(size, MOST_BYTES))


def _write(path: Path, size: int) -> tuple[float, Finding | None]:
    """Seconds for writing a file durably, and what went wrong."""
    content = os.urandom(size)
    started = time.monotonic()
    try:
        files.write_atomic(path, content)
    except OSError as err:
        full = is_full(err)
        text = f"{'the disk is full' if full else 'a file cannot be written'}: {err.strerror}"
        advice = "make room (df, quota), or choose another folder with cluster.results=/path"
        said = f"{text}, writing {size / MEGABYTE:,.0f} MB into {path.parent}"
        return 0.0, wrong("checkpoint", said, advice)
    return time.monotonic() - started, None


def _read(path: Path) -> float:
    """Seconds for reading a file, without what this machine still has of it in memory."""
    started = time.monotonic()
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while file.read(2**22):
            pass
    return time.monotonic() - started


def _judge(context: Context, size: int, written_s: float, read_s: float, reader: str) -> Finding:
    part = _part(size)
    write_speed, read_speed = part / max(written_s, 1e-6), part / max(read_s, 1e-6)
    each_s = size / write_speed
    text = (
        f"writes {write_speed / MEGABYTE:,.0f} MB/s and reads {read_speed / MEGABYTE:,.0f} MB/s"
        f" (on {reader}): {each_s:.1f} s for a checkpoint of {size / MEGABYTE:,.3g} MB"
    )
    values: dict[str, Any] = {
        "write_mb_per_s": round(write_speed / MEGABYTE, 1),
        "read_mb_per_s": round(read_speed / MEGABYTE, 1),
        "checkpoint_bytes": size,
        "checkpoint_s": round(each_s, 3),
    }
    every = [run.experiment.runtime.checkpoint_every_s for run in context.runs]
    every_s = min(every, default=RuntimeConfig.checkpoint_every_s)
    if every_s and each_s > SLOW_SHARE * every_s:
        return warning(
            "checkpoint",
            f"{text}, {each_s / every_s:.0%} of the {every_s:g} s between two",
            "save less often (runtime.checkpoint_every_s), or choose a faster folder with"
            " cluster.results=/path",
            **values,
        )
    return ok("checkpoint", text, **values)
