"""Pictures: a title, panels and the words under them, drawn with matplotlib and kept beside their
numbers."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antioversmooth import files
from antioversmooth.analysis import palette
from antioversmooth.analysis.panels import Axes, Curve, Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Plot
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure as Canvas

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, which people with any colour vision tell apart."""
MARKERS = "os^Dvx*"
STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e0e0e0",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    # text stays text
    "svg.fonttype": "none",
    # the same picture is the same bytes
    "svg.hashsalt": "antioversmooth",
}


@dataclass(frozen=True)
class Picture:
    """Everything that is on a picture."""

    name: str
    """Of its files."""
    title: str
    notes: list[str]
    """Sentences under it: the data, the runs, the sources."""
    panels: list[Axes]

    def json(self) -> str:
        """As text for a file."""
        return (
            json.dumps(
                {**asdict(self), "panels": [_plain(panel) for panel in self.panels]}, indent=1
            )
            + "\n"
        )

    def csv(self) -> str:
        """One point a line."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["panel", "curve", "x", "y", "low", "high"])
        for panel in self.panels:
            for curve in panel.curves:
                for index, x in enumerate(curve.x):
                    values = [
                        f"{part[index]:.5g}" if part else ""
                        for part in (curve.y, curve.low, curve.high)
                    ]
                    writer.writerow([panel.title, curve.label, f"{x:g}", *values])
        return text.getvalue()


def _plain(panel: Axes) -> dict[str, Any]:
    return {
        **asdict(panel),
        "curves": [{**asdict(c), "style": c.style.value} for c in panel.curves],
    }


def write(picture: Picture, folder: Path) -> list[Path]:
    """Writes the picture as JSON, CSV, PNG and SVG; returns the paths."""
    contents: dict[str, str | bytes] = {
        "json": picture.json(),
        "csv": picture.csv(),
        **draw(picture),
    }
    paths = [folder / f"{picture.name}.{suffix}" for suffix in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        files.write_atomic(path, content)
    return paths


def draw(picture: Picture) -> dict[str, bytes]:
    """The picture as PNG and SVG; the same numbers give the same bytes."""
    # only here: the control plane waits for it where it draws
    from matplotlib import style

    with style.context(STYLE):
        canvas = _canvas(picture)
        found = {}
        for suffix, metadata in (
            ("png", {"Software": None}),
            ("svg", {"Date": None, "Creator": None}),
        ):
            image = io.BytesIO()
            canvas.savefig(image, format=suffix, dpi=160, metadata=metadata)
            found[suffix] = image.getvalue()
    return found


def _canvas(picture: Picture) -> Canvas:
    """Title, legend, panels and notes, one under the other."""
    from matplotlib.figure import Figure as Canvas

    columns = (
        2
        if len(picture.panels) == 4
        else min(3 if len(picture.panels) <= 12 else 4, len(picture.panels))
    )
    lines = -(-len(picture.panels) // columns)
    width = max(3.8 * columns, 4.6)
    title = textwrap.wrap(picture.title, int(11 * width))
    notes = [line for note in picture.notes for line in textwrap.wrap(note, int(18 * width))]
    labels = _labels(picture.panels)
    legend_columns = max(1, int(width / (0.6 + 0.075 * max(map(len, labels), default=0))))
    head = 0.15 + 0.2 * len(title)
    key = 0.2 * -(-len(labels) // legend_columns)
    foot = 0.1 + 0.14 * len(notes)
    height = head + key + 3.0 * lines + foot
    canvas = Canvas(figsize=(width, height), layout="constrained", facecolor="white")
    canvas.set_layout_engine(
        "constrained", rect=(0, foot / height, 1, 3.0 * lines / height), w_pad=0.08, h_pad=0.06
    )
    handles = _plot_panels(canvas, picture.panels, lines, columns)
    left = 0.1 / width
    canvas.text(left, 1 - 0.08 / height, "\n".join(title), va="top", fontsize=11, fontweight="bold")
    canvas.text(left, 0.07 / height, "\n".join(notes), va="bottom", fontsize=7, color="#555555")
    if labels:
        place = left, 1 - head / height
        shown = [handles[label] for label in labels]
        canvas.legend(
            shown,
            labels,
            loc="upper left",
            bbox_to_anchor=place,
            ncols=legend_columns,
            borderaxespad=0,
        )
    return canvas


def _labels(panels: Sequence[Axes]) -> list[str]:
    """What the legend explains, for all panels at once: nothing lies on the curves then. None where
    there is one."""
    found = list(
        dict.fromkeys(curve.label for panel in panels if not panel.layers for curve in panel.curves)
    )
    return found if len(found) > 1 else []


def _plot_panels(
    canvas: Canvas, panels: Sequence[Axes], lines: int, columns: int
) -> dict[str, Any]:
    """Draws the panels; a colour means the same in all of them, and so does a height where they
    show one quantity.

    Returns:
        What stands for each label in a legend.
    """
    groups = list(
        dict.fromkeys(curve.group for panel in panels if not panel.layers for curve in panel.curves)
    )
    shades = _Shades([layer for panel in panels for layer in panel.layers])
    first: dict[str, Plot] = {}
    handles: dict[str, Any] = {}
    # letters; the scale of the colours takes some
    room = 34 if any(panel.layers for panel in panels) else 38
    # one would run into the next: two lines for all
    broken = any(len(panel.title) > room for panel in panels)
    for index, panel in enumerate(panels, start=1):
        plot = canvas.add_subplot(lines, columns, index, sharey=first.get(panel.quantity))
        if panel.quantity:
            first.setdefault(panel.quantity, plot)
        _plot(plot, panel, groups, shades)
        plot.set_title(_two_lines(panel.title, room) if broken else panel.title, loc="left")
        handles |= {
            label: handle for handle, label in zip(*plot.get_legend_handles_labels(), strict=True)
        }
    if any(panel.layers for panel in panels):
        shades.explain(canvas, lines)
    return handles


def _two_lines(title: str, room: int) -> str:
    """A title, broken where it says of what, else where it must be."""
    head, mark, tail = title.partition(": ") if ": " in title else title.partition(", ")
    return f"{head}{mark.strip()}\n{tail}" if mark else textwrap.fill(title, room)


def _plot(plot: Plot, panel: Axes, groups: list[str], shades: _Shades) -> None:
    """Draws a panel.

    Args:
        groups: Of the whole picture.
        shades: Of the whole picture's layers.
    """
    from matplotlib.ticker import MaxNLocator

    plot.set(xlabel=panel.x_label, ylabel=panel.y_label)
    if all(float(x).is_integer() for curve in panel.curves for x in curve.x):
        plot.xaxis.set_major_locator(MaxNLocator(integer=True))
    if panel.logarithmic:
        plot.set_yscale("log")
    if panel.unchanged is not None:
        plot.axhline(panel.unchanged, color="#888888", linewidth=0.8)
    if panel.layers:
        for layer, curve in zip(panel.layers, panel.curves, strict=True):
            plot.plot(curve.x, curve.y, color=shades.of(layer), linewidth=1)
        return
    places = dict(zip(groups, palette.places(groups), strict=True))
    own = [group for group in groups if any(curve.group == group for curve in panel.curves)]
    for curve in panel.curves:
        # markers in turn: where curves lie on each other, each is still seen
        turn = own.index(curve.group), len(own)
        _plot_curve(plot, curve, places[curve.group], turn)


class _Shades:
    """Colours of layers, from dark at the input side to light."""

    def __init__(self, layers: Sequence[int]) -> None:
        self.first, self.last = min(layers, default=0), max(layers, default=0)

    def of(self, layer: int) -> tuple[float, ...]:
        """The colour of one layer."""
        colour: tuple[float, ...] = self._colours()(
            (layer - self.first) / max(1, self.last - self.first)
        )
        return colour

    def explain(self, canvas: Canvas, lines: int) -> None:
        """Puts a scale of the colours beside all plots, which are stacked in so many lines."""
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        scale = ScalarMappable(Normalize(self.first, self.last), self._colours())
        step = max(1, round((self.last - self.first) / 6))
        ticks = [*range(self.first, self.last - step // 2, step), self.last]
        canvas.colorbar(
            scale, ax=canvas.axes, label="layer", ticks=ticks, fraction=0.05, aspect=20 * lines
        )

    def _colours(self) -> ListedColormap:
        from matplotlib import colormaps
        from matplotlib.colors import ListedColormap

        # the end of viridis is a yellow that is not seen on white
        return ListedColormap([colormaps["viridis"](index / 280) for index in range(256)])


def _plot_curve(plot: Plot, curve: Curve, place: int, turn: tuple[int, int]) -> None:
    colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
    # markers would hide the line
    many = len(curve.x) > 40
    options: dict[str, Any] = {"color": colour, "label": curve.label}
    if curve.style is Style.points:
        plot.scatter(curve.x, curve.y, s=10, alpha=0.5, linewidths=0, **options)
        return
    dashed = curve.style is Style.dashed
    options |= {
        "linestyle": "--" if dashed else "-",
        "marker": "" if dashed or many else marker,
        "markevery": turn,
    }
    plot.plot(curve.x, curve.y, **options)
    if curve.low:
        plot.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
