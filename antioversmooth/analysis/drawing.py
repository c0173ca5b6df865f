"""Figures drawn with matplotlib, and their numbers as JSON and CSV."""

from __future__ import annotations

import csv
import io
import itertools
import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antioversmooth import files
from antioversmooth.analysis.panels import Curve, PanelData, Style
from antioversmooth.methods import METHODS
from antioversmooth.text import csv_cell, one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""The palette of Okabe and Ito, which is safe for all kinds of colour vision."""
BASELINE = 0
_METHODS = sorted(METHODS.values(), key=lambda method: not method.released)
"""The paper's own first, which have released weights: theirs stay when others join."""
METHOD_COLOURS = {method.title: index for index, method in enumerate(_METHODS, start=1)}
"""Index of the colour of rows whose label contains a method's title."""
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
    # keeps text as text
    "svg.fonttype": "none",
    # makes the bytes reproducible
    "svg.hashsalt": "antioversmooth",
    # a dollar sign in a text is a dollar sign
    "text.parse_math": False,
}


@dataclass(frozen=True)
class Picture:
    """A figure with its panels and notes."""

    name: str
    """Name of its files."""
    title: str
    notes: list[str]
    """Sentences below the panels: data, runs, sources."""
    panels: list[PanelData]

    def json(self) -> str:
        """JSON text."""
        panels = [_to_json(panel) for panel in self.panels]
        return json.dumps({**asdict(self), "panels": panels}, indent=1, allow_nan=False) + "\n"

    def csv(self) -> str:
        """CSV text: one point a line."""
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
                    names = map(csv_cell, (panel.title, curve.label))
                    writer.writerow([*names, f"{x:g}", *values])
        return text.getvalue()


def _to_json(panel: PanelData) -> dict[str, Any]:
    return {
        **asdict(panel),
        "curves": [{**asdict(c), "style": c.style.value} for c in panel.curves],
    }


def palette_indices(labels: Sequence[str]) -> list[int]:
    """Index of a colour for each label, all different: the same for a method in every figure.

    The first label of a method has the method's colour; further ones have the colours after those
    of the paper's methods and of the others here.
    """
    own = [
        next((index for title, index in METHOD_COLOURS.items() if title in label), BASELINE)
        for label in labels
    ]
    paper = sum(1 for method in _METHODS if method.released)
    free = itertools.count(1 + max(paper, *own, BASELINE))
    return [index if index not in own[:place] else next(free) for place, index in enumerate(own)]


def appearance(index: int) -> tuple[str, str]:
    """Colour and marker of a line; where colours begin again, with other markers."""
    turn, colour = divmod(index, len(COLOURS))
    return COLOURS[colour], MARKERS[(colour + turn) % len(MARKERS)]


def write_picture(picture: Picture, folder: Path) -> list[Path]:
    """Writes the picture as JSON, CSV, PNG and SVG; returns the paths."""
    contents: dict[str, str | bytes] = {"json": picture.json(), "csv": picture.csv()}
    contents |= draw(picture)
    paths = []
    for suffix, content in contents.items():
        paths.append(folder / f"{picture.name}.{suffix}")
        files.write_atomic(paths[-1], content)
    return paths


def draw(picture: Picture) -> dict[str, bytes]:
    """The picture as PNG and SVG; the same numbers give the same bytes."""
    # slow to import, so only where something is drawn
    from matplotlib import style

    # nothing that differs from one machine or day to another
    without = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
    with style.context(STYLE):
        figure = _figure(_drawable(picture))
        found = {}
        for suffix, metadata in without.items():
            image = io.BytesIO()
            figure.savefig(image, format=suffix, dpi=160, metadata=metadata)
            found[suffix] = image.getvalue()
    return found


def _drawable(picture: Picture) -> Picture:
    """The picture with texts that matplotlib and SVG show as they are."""
    panels = [
        replace(
            panel,
            title=one_line(panel.title),
            curves=[replace(curve, label=_legend_text(curve.label)) for curve in panel.curves],
        )
        for panel in picture.panels
    ]
    notes = list(map(one_line, picture.notes))
    return replace(picture, title=one_line(picture.title), notes=notes, panels=panels)


def _legend_text(label: str) -> str:
    """The label; matplotlib leaves empty ones, and those that begin with _, out of legends."""
    text = one_line(label)
    return f" {text}" if not text or text.startswith("_") else text


def _figure(picture: Picture) -> Figure:
    """Title, legend, panels and notes, one under the other."""
    from matplotlib.figure import Figure

    count = len(picture.panels)
    columns = 2 if count == 4 else min(3 if count <= 12 else 4, count)
    lines = -(-count // columns)
    width = max(3.8 * columns, 4.6)
    title = textwrap.wrap(picture.title, int(11 * width))
    notes = [line for note in picture.notes for line in textwrap.wrap(note, int(18 * width))]
    labels = _labels(picture.panels)
    legend_columns = max(1, int(width / (0.6 + 0.075 * max(map(len, labels), default=0))))
    head = 0.15 + 0.2 * len(title)
    key = 0.2 * -(-len(labels) // legend_columns)
    foot = 0.1 + 0.14 * len(notes)
    height = head + key + 3.0 * lines + foot
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    figure.set_layout_engine(
        "constrained", rect=(0, foot / height, 1, 3.0 * lines / height), w_pad=0.08, h_pad=0.06
    )
    handles = _plot_panels(figure, picture.panels, lines, columns)
    left = 0.1 / width
    figure.text(left, 1 - 0.08 / height, "\n".join(title), va="top", fontsize=11, fontweight="bold")
    figure.text(left, 0.07 / height, "\n".join(notes), va="bottom", fontsize=7, color="#555555")
    if labels:
        corner = left, 1 - head / height
        shown = [handles[label] for label in labels]
        place: dict[str, Any] = {"bbox_to_anchor": corner, "borderaxespad": 0}
        figure.legend(shown, labels, loc="upper left", ncols=legend_columns, **place)
    return figure


def _curves(panels: Sequence[PanelData]) -> list[Curve]:
    """The curves of rows, in all panels."""
    return [curve for panel in panels if not panel.layers for curve in panel.curves]


def _labels(panels: Sequence[PanelData]) -> list[str]:
    """Labels of the legend of all panels; empty if there is only one."""
    found = list(dict.fromkeys(curve.label for curve in _curves(panels)))
    return found if len(found) > 1 else []


def _plot_panels(
    figure: Figure, panels: Sequence[PanelData], lines: int, columns: int
) -> dict[str, Any]:
    """Draws the panels; they share colours, and panels of one quantity share the y axis.

    Returns:
        The legend handle of each label.
    """
    groups = list(dict.fromkeys(curve.group for curve in _curves(panels)))
    layer_colours = _LayerColours([layer for panel in panels for layer in panel.layers])
    first: dict[str, Axes] = {}
    handles: dict[str, Any] = {}
    # in characters; a colour bar takes some
    max_title = 34 if any(panel.layers for panel in panels) else 38
    # if one title is too long, all are broken
    broken = any(len(panel.title) > max_title for panel in panels)
    for index, panel in enumerate(panels, start=1):
        axes = figure.add_subplot(lines, columns, index, sharey=first.get(panel.quantity))
        if panel.quantity:
            first.setdefault(panel.quantity, axes)
        _plot(axes, panel, groups, layer_colours)
        axes.set_title(_break_title(panel.title, max_title) if broken else panel.title, loc="left")
        shown, labels = axes.get_legend_handles_labels()
        handles |= dict(zip(labels, shown, strict=True))
    if any(panel.layers for panel in panels):
        layer_colours.add_colour_bar(figure, lines)
    return handles


def _break_title(title: str, width: int) -> str:
    """The title in two lines, broken after the first colon or comma if there is one."""
    head, mark, tail = title.partition(": ") if ": " in title else title.partition(", ")
    return f"{head}{mark.strip()}\n{tail}" if mark else textwrap.fill(title, width)


def _plot(axes: Axes, panel: PanelData, groups: list[str], layer_colours: _LayerColours) -> None:
    """Draws a panel.

    Args:
        groups: Groups of curves in the whole picture.
        layer_colours: Colours of the layers in the whole picture.
    """
    from matplotlib.ticker import MaxNLocator

    axes.set(xlabel=panel.x_label, ylabel=panel.y_label)
    if all(float(x).is_integer() for curve in panel.curves for x in curve.x):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if panel.logarithmic:
        _set_logarithmic(axes)
    if panel.unchanged is not None:
        axes.axhline(panel.unchanged, color="#888888", linewidth=0.8)
    if panel.layers:
        for layer, curve in zip(panel.layers, panel.curves, strict=True):
            axes.plot(curve.x, curve.y, color=layer_colours.of(layer), linewidth=1)
        return
    colours = dict(zip(groups, palette_indices(groups), strict=True))
    own = [group for group in groups if any(curve.group == group for curve in panel.curves)]
    for curve in panel.curves:
        # markers alternate, so that each of several equal curves can be seen
        turn = own.index(curve.group), len(own)
        _plot_curve(axes, curve, colours[curve.group], turn)


def _set_logarithmic(axes: Axes) -> None:
    """Makes the y axis logarithmic, with plain numbers: matplotlib's own labels are mathtext."""
    from matplotlib.ticker import LogFormatter

    class PlainNumbers(LogFormatter):
        def __call__(self, x: float, pos: int | None = None) -> str:
            return f"{x:g}" if super().__call__(x, pos) else ""

    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(PlainNumbers())
    axes.yaxis.set_minor_formatter(PlainNumbers())


class _LayerColours:
    """Colours of layers, from dark at the input side to light."""

    def __init__(self, layers: Sequence[int]) -> None:
        self.first, self.last = min(layers, default=0), max(layers, default=0)

    def of(self, layer: int) -> tuple[float, ...]:
        """The colour of one layer."""
        colour: tuple[float, ...] = self._colours()(
            (layer - self.first) / max(1, self.last - self.first)
        )
        return colour

    def add_colour_bar(self, figure: Figure, lines: int) -> None:
        """Adds a colour bar beside the panels, which are in `lines` lines."""
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        scale = ScalarMappable(Normalize(self.first, self.last), self._colours())
        step = max(1, round((self.last - self.first) / 6))
        ticks = [*range(self.first, self.last - step // 2, step), self.last]
        figure.colorbar(
            scale, ax=figure.axes, label="layer", ticks=ticks, fraction=0.05, aspect=20 * lines
        )

    def _colours(self) -> ListedColormap:
        from matplotlib import colormaps
        from matplotlib.colors import ListedColormap

        # without the end of viridis, a yellow that is invisible on white
        return ListedColormap([colormaps["viridis"](index / 280) for index in range(256)])


def _plot_curve(axes: Axes, curve: Curve, index: int, turn: tuple[int, int]) -> None:
    colour, marker = appearance(index)
    # markers would hide the line
    many = len(curve.x) > 40
    options: dict[str, Any] = {"color": colour, "label": curve.label}
    if curve.style is Style.points:
        axes.scatter(curve.x, curve.y, s=10, alpha=0.5, linewidths=0, **options)
        return
    dashed = curve.style is Style.dashed
    options |= {
        "linestyle": "--" if dashed else "-",
        "marker": "" if dashed or many else marker,
        "markevery": turn,
    }
    axes.plot(curve.x, curve.y, **options)
    if curve.low:
        axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
