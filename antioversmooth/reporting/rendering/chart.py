"""Line charts as inline SVG; colours come from the page's style, so that they follow light and
dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from antioversmooth.analysis import palette

WIDTH, HEIGHT = 440, 260
LEFT, RIGHT, TOP, BOTTOM = 48, 8, 10, 40
COLOURS = 8
"""Classes s0 to s7 in page.css; further series start again."""


@dataclass(frozen=True)
class Line:
    """Points that belong together."""

    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Series:
    """Lines of one colour: one for each seed of a row."""

    label: str
    lines: Sequence[Line]


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


def line_chart(series: Sequence[Series], *, x_label: str, y_label: str) -> str:
    """A figure with its legend.

    Args:
        series: At least one line with at least one finite point.
    """
    x = _axis([value for s in series for line in s.lines for value in line.x], LEFT, WIDTH - RIGHT)
    y = _axis([value for s in series for line in s.lines for value in line.y], HEIGHT - BOTTOM, TOP)
    classes = [f"s{place % COLOURS}" for place in palette.places([s.label for s in series])]
    paths = [
        _path(line, x, y, colour)
        for colour, s in zip(classes, series, strict=True)
        for line in s.lines
    ]
    return "\n".join(
        [
            (
                f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y_label)} by'
                f' {escape(x_label)}">'
            ),
            *_grid(x, y),
            (
                f'<text x="{(LEFT + WIDTH) / 2:g}" y="{HEIGHT - 6}"'
                f' text-anchor="middle">{escape(x_label)}</text>'
            ),
            *paths,
            "</svg>",
            '<ul class="legend">',
            *(_key(colour, s.label) for colour, s in zip(classes, series, strict=True)),
            "</ul>",
        ]
    )


def _key(colour: str, label: str) -> str:
    """An entry of the legend: its line drawn as in the chart, since colours are lost on some eyes
    and printers."""
    line = (
        f'<svg class="key" viewBox="0 0 28 8" aria-hidden="true"><line class="{colour}" x2="28"'
        ' y1="4" y2="4"/></svg>'
    )
    return f"<li>{line}{escape(label)}</li>"


def _axis(values: Sequence[float], start: float, end: float) -> Axis:
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite), max(finite)
    return Axis(low, high, start, end) if high > low else Axis(low - 0.5, high + 0.5, start, end)


def _grid(x: Axis, y: Axis) -> list[str]:
    rows = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y.at(tick):.1f}"'
        f' y2="{y.at(tick):.1f}"/><text x="{LEFT - 6}" y="{y.at(tick) + 4:.1f}"'
        f' text-anchor="end">{label}</text>'
        for tick, label in zip(y.ticks(), y.labels(), strict=True)
    ]
    below = HEIGHT - BOTTOM + 16
    ticks = zip(x.ticks(), x.labels(), strict=True)
    return rows + [
        f'<text x="{x.at(t):.1f}" y="{below}" text-anchor="middle">{label}</text>'
        for t, label in ticks
    ]


def _path(line: Line, x: Axis, y: Axis, colour: str) -> str:
    points = [(x.at(a), y.at(b)) for a, b in zip(line.x, line.y, strict=True) if math.isfinite(b)]
    if len(points) == 1:
        return f'<circle class="{colour}" cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="3"/>'
    text = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    return f'<polyline class="{colour}" points="{text}"/>'
