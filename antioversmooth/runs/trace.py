"""The numbers that a look at many runs needs of the metrics of each, in place of all records."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Trace:
    """Numbers of the metrics of a run, without those that later attempts superseded."""

    last_step: int
    """0 before the first."""
    epochs_done: int
    """Whole epochs that were evaluated."""
    top1: float | None
    """After the last epoch that was evaluated, in percent."""
    loss: float | None
    """Newest training loss."""
    images_per_s: float | None
    """Newest training throughput over all devices."""
    device_speed: float | None
    """Median of the images a second and device; of a done run as its result has it."""
