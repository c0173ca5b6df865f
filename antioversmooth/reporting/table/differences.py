"""Differences between a row and its baseline: paired by seed, with a 95 % interval.

Two rows of one backbone share all that their common seed decides: the initial weights of the
backbone, the order of the images, their augmentation and the masks of dropout. What the seed does
to both cancels in the difference of their two runs, so the mean over such pairs varies less than
the difference of two means.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
"""Probability that an interval contains the true mean, where differences are normal."""


@dataclass(frozen=True)
class Interval:
    """Student's 95 % interval of a mean."""

    low: float
    high: float
    contains_zero: bool

    @classmethod
    def of(cls, mean: float, error: float, degrees: int) -> Interval | None:
        """The interval of a mean with a standard error.

        None where all values are equal, which tells no spread: those of one seed, of an evaluation
        that no seed changes, or accuracies that are rounded to whole images.
        """
        if degrees < 1 or error == 0:
            return None
        margin = t_quantile(degrees) * error
        return cls(mean - margin, mean + margin, abs(mean) <= margin)


@dataclass(frozen=True)
class Difference:
    """A row's mean minus its baseline's."""

    mean: float
    interval: Interval | None
    n: int
    """Pairs, one for each seed that both have; 0: they share no seed, and it is the difference of
    two means."""
    seeds: tuple[int, ...] = ()
    """The seeds of the pairs."""
    pairs: tuple[float, ...] = ()
    """The difference at each of these seeds."""


def difference(ours: Mapping[int, float], baseline: Mapping[int, float]) -> Difference | None:
    """The difference of a row and its baseline; None while either is not measured.

    Args:
        ours: The row's values by seed.
        baseline: The baseline's values by seed.
    """
    if shared := ours.keys() & baseline.keys():
        return paired({seed: ours[seed] - baseline[seed] for seed in shared})
    return _unpaired(list(ours.values()), list(baseline.values())) if ours and baseline else None


def paired(differences: Mapping[int, float]) -> Difference:
    """The mean of differences by seed, with Student's interval of n - 1 degrees of freedom."""
    seeds = tuple(sorted(differences))
    values = tuple(differences[seed] for seed in seeds)
    mean, error = statistics.mean(values), _standard_error(values)
    interval = Interval.of(mean, error, len(seeds) - 1)
    return Difference(mean, interval, len(seeds), seeds, values)


def _unpaired(ours: Sequence[float], baseline: Sequence[float]) -> Difference:
    """The difference of two means, with Welch's standard error.

    Its degrees of freedom are those of the smaller row, which is cautious.
    """
    mean = statistics.mean(ours) - statistics.mean(baseline)
    error = math.hypot(_standard_error(ours), _standard_error(baseline))
    return Difference(mean, Interval.of(mean, error, min(len(ours), len(baseline)) - 1), 0)


def _standard_error(values: Sequence[float]) -> float:
    """Standard error of the mean; 0 for one value."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def t_quantile(degrees: int, confidence: float = CONFIDENCE) -> float:
    """The t that |T| stays below with probability `confidence`, for Student's distribution.

    Args:
        degrees: Degrees of freedom, at least 1.
    """
    low, high = 0.0, math.pi / 2
    while low < (middle := (low + high) / 2) < high:
        low, high = (
            (middle, high) if _t_probability(middle, degrees) < confidence else (low, middle)
        )
    return math.sqrt(degrees) * math.tan(low)


def _t_probability(angle: float, degrees: int) -> float:
    """P(|T| < t) for tan(angle) = t / sqrt(degrees).

    Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    odd = degrees % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0 if degrees == 1 else term
    for k in range(2 + odd, degrees - 1, 2):
        term *= (k - 1) / k * math.cos(angle) ** 2
        total += term
    return (angle + math.sin(angle) * total) * 2 / math.pi if odd else math.sin(angle) * total
