"""Times that compare on a machine which others use too: of one thread or of the device, variants
interleaved."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

Times = dict[str, list[float]]
"""Seconds of each round, by variant."""
Clock = Callable[[Callable[[], object]], float]
"""Calls something and returns the seconds that it took."""


@dataclass(frozen=True)
class Spread:
    """A median, and the middle half of what was measured."""

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
    """Seconds of CPU that this process spent on a call: other processes' share of the machine does
    not count."""
    start = time.process_time()
    call()
    return time.process_time() - start


def cuda_clock(call: Callable[[], object]) -> float:
    """Seconds that the device spent on what a call gave it."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1000


def interleaved(
    variants: Mapping[str, Callable[[], object]], clock: Clock, *, rounds: int
) -> Times:
    """Seconds of every variant in every round; a round calls each one once, beginning one further
    on than the last.

    So a machine that slows down, or a cache that one variant leaves behind, meets all of them
    alike. One more round goes before, untimed.
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
