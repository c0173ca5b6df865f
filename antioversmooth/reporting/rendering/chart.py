"""Geometry of the charts of a page; chart.html draws them as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from antioversmooth.analysis.drawing import palette_indices

WIDTH, HEIGHT = 440, 260
LEFT, RIGHT, TOP, BOTTOM = 48, 8, 10, 40
COLOURS = 8
"""Classes s0 to s7 in page.css; further series start again."""


Points = list[tuple[float, float]]
"""One line of a chart."""
Series = tuple[str, list[Points]]
"""A label, and lines of one colour: one for each seed of a row."""


@dataclass(frozen=True)
class Axis:
    """Maps a range of values to pixels."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Pixels of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """About five round values within the range."""
        step = round_step((self.high - self.low) / 5)
        first = math.ceil(self.low / step - 1e-9)
        return [
            round(index * step, 10)
            for index in range(first, math.floor(self.high / step + 1e-9) + 1)
        ]

    def labels(self) -> list[str]:
        """The ticks in digits, all with the same number of them behind the point."""
        shortest = [f"{tick:g}" for tick in self.ticks()]
        if any("e" in text for text in shortest):
            return shortest
        digits = max(len(text.partition(".")[2]) for text in shortest)
        return [f"{tick:.{digits}f}" for tick in self.ticks()]


def round_step(step: float) -> float:
    """The smallest of 1, 2, 5, 10, ... times a power of ten that is at least `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))


@dataclass(frozen=True)
class Chart:
    """Everything that chart.html draws; lengths in pixels."""

    x_label: str
    y_label: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    lines: list[tuple[str, Points]]
    """Colour, a class in page.css, and points of each line."""
    legend: list[tuple[str, str]]
    """Colour and label of each series."""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM

    @staticmethod
    def corners(points: Points) -> str:
        """The points of a polyline as SVG has them: one value for the template, not thousands."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def line_chart(series: Sequence[Series], *, x_label: str, y_label: str) -> Chart:
    """A chart with its legend.

    Args:
        series: At least one line with at least one finite point.
    """
    labels = [label for label, _ in series]
    colours = [f"s{index % COLOURS}" for index in palette_indices(labels)]
    points = [point for _, lines in series for line in lines for point in line]
    x = _axis([a for a, _ in points], LEFT, WIDTH - RIGHT)
    y = _axis([b for _, b in points], HEIGHT - BOTTOM, TOP)
    return Chart(
        x_label,
        y_label,
        [(x.at(tick), label) for tick, label in zip(x.ticks(), x.labels(), strict=True)],
        [(y.at(tick), label) for tick, label in zip(y.ticks(), y.labels(), strict=True)],
        [
            (colour, [(x.at(a), y.at(b)) for a, b in line if math.isfinite(b)])
            for colour, (_, lines) in zip(colours, series, strict=True)
            for line in lines
        ],
        list(zip(colours, labels, strict=True)),
    )


@dataclass(frozen=True)
class Gain:
    """The gain of a row over its baseline, in points."""

    label: str
    mean: float
    interval: tuple[float, float] | None
    """Low and high end; None where there is none."""
    paper: float | None
    """The paper's gain; None where it has none."""


LINE_HEIGHT, LABEL_LENGTH = 36, 60
"""Pixels of a row with its label above the line, and characters of the label."""


@dataclass(frozen=True)
class GainChart:
    """Everything that chart.html draws of gains: a line for each row, from top to bottom."""

    gains: Sequence[Gain]
    x: Axis
    top: int = TOP
    line_height: int = LINE_HEIGHT
    left: int = RIGHT
    width: int = WIDTH

    @property
    def bottom(self) -> int:
        """Pixels of the lower end of the lines."""
        return self.top + len(self.gains) * self.line_height

    @property
    def height(self) -> int:
        """Pixels, with the labels of the axis."""
        return self.bottom + BOTTOM

    def ticks(self) -> list[tuple[float, str]]:
        """Pixels and labels of the axis."""
        pairs = zip(self.x.ticks(), self.x.labels(), strict=True)
        return [(self.x.at(tick), label) for tick, label in pairs]


def gain_chart(gains: Sequence[Gain]) -> GainChart:
    """A chart of gains, on an axis with 0.

    Args:
        gains: At least one.
    """
    values = [0.0]
    for gain in gains:
        values += [gain.mean, *(gain.interval or ())]
        values += [] if gain.paper is None else [gain.paper]
    shown = [replace(gain, label=shorten(gain.label, LABEL_LENGTH)) for gain in gains]
    # a circle at an end is not cut off
    return GainChart(shown, _axis(values, 2 * RIGHT, WIDTH - 2 * RIGHT))


def shorten(text: str, length: int) -> str:
    """The text, with its end left out where it is longer."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _axis(values: Sequence[float], start: float, end: float) -> Axis:
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite), max(finite)
    return Axis(low, high, start, end) if high > low else Axis(low - 0.5, high + 0.5, start, end)
