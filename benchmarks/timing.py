"""Comparable measurements on a shared machine: times of one thread or of the device, variants
interleaved, and peak memory."""

from __future__ import annotations

import ctypes
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

Times = dict[str, list[float]]
"""Seconds of each round, by variant."""
Clock = Callable[[Callable[[], object]], float]
"""Calls something and returns the seconds that it took."""

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Spread:
    """A median, and the middle half of the measured values."""

    median: float
    low: float
    high: float


def spread(values: list[float]) -> Spread:
    """Median and quartiles; of a single value, that value."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def cpu_clock(call: Callable[[], object]) -> float:
    """Seconds of CPU that this process spends on a call, however busy the machine is."""
    start = time.process_time()
    call()
    return time.process_time() - start


def cuda_clock(call: Callable[[], object]) -> float:
    """Seconds that the device spends on the work of a call."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1000


def time_process(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    exit_code: int = 0,
    limit_s: float | None = None,
) -> tuple[float, float]:
    """Seconds of a process and its children: of CPU, and by the clock.

    Raises:
        RuntimeError: It ends with another exit code than expected.
        TimeoutExpired: It did not end within `limit_s` seconds.
    """
    start, before = time.perf_counter(), os.times()
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=limit_s
    )
    wall, after = time.perf_counter() - start, os.times()
    if done.returncode != exit_code:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr}")
    user = after.children_user - before.children_user
    return user + after.children_system - before.children_system, wall


def interleaved(
    variants: Mapping[str, Callable[[], object]], clock: Clock, *, rounds: int
) -> Times:
    """Seconds of every variant in every round.

    A round calls each variant once and begins one further on than the round before, so a machine
    that slows down, or a cache that one variant leaves behind, affects all of them alike. An
    untimed round comes first.
    """
    names = list(variants)
    for name in names:
        variants[name]()
    times: Times = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            times[name].append(clock(variants[name]))
    return times


def relative(times: Times, base: str) -> dict[str, Spread]:
    """Each variant's time as a multiple of the base's, the ratio taken within each round."""
    return {
        name: spread([own / other for own, other in zip(values, times[base], strict=True)])
        for name, values in times.items()
    }


def peak_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """Bytes that a call needs at its peak, beyond those in use before; None if nobody counts them.

    The device's allocator counts them, on a CPU the kernel. A first call is not measured: it
    allocates what stays.
    """
    call()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    return _resident(call) if _STATUS.exists() else None


def _resident(call: Callable[[], object]) -> int:
    # hand freed memory back to the system, or the call would seem to need none
    ctypes.CDLL(None).malloc_trim(0)
    # reset the peak
    Path("/proc/self/clear_refs").write_text("5")
    before = _kibibytes("VmRSS")
    call()
    return 1024 * (_kibibytes("VmHWM") - before)


def _kibibytes(field: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1])
