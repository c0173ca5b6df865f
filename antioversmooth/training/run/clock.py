"""Wall time of training."""

from __future__ import annotations

import time


class EpochClock:
    """Wall time of training within an epoch, without evaluation.

    Args:
        epoch_s: Seconds that an earlier attempt has spent on this epoch.
    """

    def __init__(self, epoch_s: float = 0.0) -> None:
        self._epoch_s = epoch_s

    def start(self, step: int) -> None:
        """Starts the time at this step."""
        self._step, self._lap_started = step, time.perf_counter()

    def lap(self, step: int) -> float:
        """Steps per second since the last lap, or since the start."""
        now = time.perf_counter()
        steps, seconds = step - self._step, now - self._lap_started
        self._step, self._lap_started = step, now
        self._epoch_s += seconds
        return steps / seconds

    def epoch_s(self) -> float:
        """Seconds of this epoch so far."""
        return self._epoch_s + time.perf_counter() - self._lap_started
