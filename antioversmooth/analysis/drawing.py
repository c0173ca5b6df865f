"""Pictures: a title, panels and the words under them, drawn with matplotlib and kept beside their numbers."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antioversmooth import files
from antioversmooth.analysis import palette
from antioversmooth.analysis.panels import Axes, Curve, Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Plot
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
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "antioversmooth",  # the same picture is the same bytes
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
        return json.dumps({**asdict(self), "panels": [_plain(panel) for panel in self.panels]}, indent=1) + "\n"

    def csv(self) -> str:
        """One point a line."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["panel", "curve", "x", "y", "low", "high"])
        for panel in self.panels:
            for curve in panel.curves:
                for index, x in enumerate(curve.x):
                    values = [f"{part[index]:.5g}" if part else "" for part in (curve.y, curve.low, curve.high)]
                    writer.writerow([panel.title, curve.label, f"{x:g}", *values])
        return text.getvalue()


def _plain(panel: Axes) -> dict[str, Any]:
    return {**asdict(panel), "curves": [{**asdict(c), "style": c.style.value} for c in panel.curves]}


def write(picture: Picture, folder: Path) -> list[Path]:
    """Writes the picture as JSON, CSV, PNG and SVG; returns the paths."""
    contents: dict[str, str | bytes] = {"json": picture.json(), "csv": picture.csv(), **draw(picture)}
    paths = [folder / f"{picture.name}.{suffix}" for suffix in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        files.write_atomic(path, content)
    return paths


def draw(picture: Picture) -> dict[str, bytes]:
    """The picture as PNG and SVG; the same numbers give the same bytes."""
    from matplotlib import style  # only here: the control plane waits for it where it draws

    with style.context(STYLE):
        canvas = _canvas(picture)
        found = {}
        for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
            image = io.BytesIO()
            canvas.savefig(image, format=suffix, dpi=160, metadata=metadata)
            found[suffix] = image.getvalue()
    return found


def _canvas(picture: Picture) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    columns = 2 if len(picture.panels) == 4 else min(3 if len(picture.panels) <= 9 else 4, len(picture.panels))
    lines = -(-len(picture.panels) // columns)
    width = 4.4 * columns
    notes = [line for note in picture.notes for line in textwrap.wrap(note, int(19 * width))]
    canvas = Canvas(figsize=(width, 3.3 * lines + 0.5 + 0.14 * len(notes)), layout="constrained", facecolor="white")
    groups = list(dict.fromkeys(curve.group for panel in picture.panels for curve in panel.curves))
    for index, panel in enumerate(picture.panels, start=1):
        _plot(canvas, canvas.add_subplot(lines, columns, index), panel, groups)
    canvas.suptitle(picture.title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    if notes:
        canvas.supxlabel("\n".join(notes), x=0.01, ha="left", fontsize=7, color="#555555")
    return canvas


def _plot(canvas: Canvas, plot: Plot, panel: Axes, groups: list[str]) -> None:
    """Draws a panel.

    Args:
        groups: Of the whole picture, so that a colour means the same in all panels.
    """
    from matplotlib.ticker import MaxNLocator

    plot.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    plot.title.set_horizontalalignment("left")
    plot.title.set_x(0)
    if all(float(x).is_integer() for curve in panel.curves for x in curve.x):
        plot.xaxis.set_major_locator(MaxNLocator(integer=True))
    if panel.logarithmic:
        plot.set_yscale("log")
    if panel.layers:
        _plot_layers(canvas, plot, panel)
        return
    places = dict(zip(groups, palette.places(groups), strict=True))
    own = [group for group in groups if any(curve.group == group for curve in panel.curves)]
    for curve in panel.curves:
        # markers in turn: where curves lie on each other, each is still seen
        turn = own.index(curve.group), len(own)
        _plot_curve(plot, curve, places[curve.group], turn)
    if len(panel.curves) > 1:
        plot.legend()


def _plot_layers(canvas: Canvas, plot: Plot, panel: Axes) -> None:
    """One curve a layer: colours from dark to light, with a scale beside the panel."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    first, last = panel.layers[0], panel.layers[-1]
    shades = ListedColormap([colormaps["viridis"](index / 280) for index in range(256)])  # yellow is not seen on white
    for layer, curve in zip(panel.layers, panel.curves, strict=True):
        plot.plot(curve.x, curve.y, color=shades((layer - first) / (last - first)), linewidth=1)
    canvas.colorbar(ScalarMappable(Normalize(first, last), shades), ax=plot, label="layer")


def _plot_curve(plot: Plot, curve: Curve, place: int, turn: tuple[int, int]) -> None:
    colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
    many = len(curve.x) > 40  # markers would hide the line
    options: dict[str, Any] = {"color": colour, "label": curve.label}
    if curve.style is Style.points:
        plot.scatter(curve.x, curve.y, s=10, alpha=0.5, linewidths=0, **options)
        return
    dashed = curve.style is Style.dashed
    options |= {"linestyle": "--" if dashed else "-", "marker": "" if dashed or many else marker, "markevery": turn}
    plot.plot(curve.x, curve.y, **options)
    if curve.low:
        plot.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
