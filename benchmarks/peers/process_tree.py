"""CPU time and memory of a process and all that it starts, read from outside while it runs."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

_EVERY_S = 0.1
_MEMORY_EVERY = 3
"""Readings between two of memory, each of which holds up the process for milliseconds."""


@dataclass(frozen=True)
class Reading:
    """CPU seconds at a time."""

    time: float
    tree_s: float
    """Of the process and its descendants, those that have ended included."""
    first_s: float
    """Of the process alone."""


@dataclass(frozen=True)
class Cost:
    """CPU seconds between two times."""

    tree_s: float
    first_s: float

    @property
    def children_share(self) -> float:
        """Part that other processes than the first have spent."""
        return 1 - self.first_s / self.tree_s


@dataclass(frozen=True)
class Watched:
    """All that was read of a process that has ended."""

    readings: list[Reading]
    peak_bytes: int
    """Most memory of all its processes together: private pages, those shared among them once, and
    the most file pages of one of them."""

    @property
    def started(self) -> float:
        return self.readings[0].time

    def cost(self, start: float, end: float) -> Cost:
        """CPU seconds between two times, interpolated between readings."""
        times = [reading.time for reading in self.readings]
        tree = np.interp([start, end], times, [reading.tree_s for reading in self.readings])
        first = np.interp([start, end], times, [reading.first_s for reading in self.readings])
        return Cost(float(tree[1] - tree[0]), float(first[1] - first[0]))


def watch(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    log: Path,
    limit_s: float,
    exit_codes: Collection[int] = (0,),
) -> Watched:
    """Runs a command to its end.

    Args:
        log: File for its output.
        exit_codes: Expected ones.

    Raises:
        RuntimeError: It ends with another exit code, or not within `limit_s` seconds.
    """
    readings, peak = [Reading(time.time(), 0.0, 0.0)], 0
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=cwd, env=env, stdout=output, stderr=output, start_new_session=True
        )
        try:
            root = psutil.Process(process.pid)
            while process.poll() is None:
                if time.time() - readings[0].time > limit_s:
                    raise RuntimeError(f"did not end within {limit_s:.0f} s")
                tree = _tree(root)
                readings += _read(root, tree)
                if len(readings) % _MEMORY_EVERY == 0:
                    peak = max(peak, _memory(tree))
                time.sleep(_EVERY_S)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if process.returncode not in exit_codes:
        said = log.read_text(errors="replace").strip().splitlines()[-1:] or ["nothing"]
        raise RuntimeError(f"ended with {process.returncode}, and said last: {said[0]}")
    return Watched(readings, peak)


def _tree(root: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return [root, *root.children(recursive=True)]
    return []


def _read(root: psutil.Process, tree: Sequence[psutil.Process]) -> list[Reading]:
    """A reading, unless the process has just ended."""
    total, first, now = 0.0, None, time.time()
    for process in tree:
        with suppress(psutil.NoSuchProcess):
            spent = process.cpu_times()
            # a process has the seconds of its children once it has waited for their end
            total += spent.user + spent.system + spent.children_user + spent.children_system
            if process == root:
                first = spent.user + spent.system
    return [] if first is None else [Reading(now, total, first)]


def _memory(tree: Sequence[psutil.Process]) -> int:
    """Bytes of all processes together, as `Watched.peak_bytes` counts them.

    The kernel's proportional size would depend on who else has mapped the same libraries.
    """
    own, of_files = 0, [0]
    for process in tree:
        folder = Path("/proc") / str(process.pid)
        with suppress(OSError, StopIteration):
            sizes = (folder / "smaps_rollup").read_text()
            own += _kibibytes(sizes, "Pss_Anon") + _kibibytes(sizes, "Pss_Shmem")
            of_files.append(_kibibytes((folder / "status").read_text(), "RssFile"))
    return 1024 * (own + max(of_files))


def _kibibytes(text: str, field: str) -> int:
    line = next(line for line in text.splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1])
