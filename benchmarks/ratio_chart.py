"""The chart of a measurement: steps, layers and memory as multiples of timm's own model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from antioversmooth.analysis.drawing import COLOURS, STYLE
from benchmarks.goals import exact
from benchmarks.models import PLAIN
from benchmarks.timing import Spread, relative


def _bytes(key: str) -> Callable[[dict[str, Any]], dict[str, Spread]]:
    return lambda case: {name: exact(case[key], name) for name in case[key]}


_PANELS: dict[str, Callable[[dict[str, Any]], dict[str, Spread]]] = {
    "time of a training step": lambda case: relative(case["step_s"], PLAIN),
    "saved for backward": _bytes("saved_bytes"),
    "moved per step": _bytes("moved_bytes"),
}


def draw(measured: dict[str, Any], folder: Path) -> Path:
    """Writes bench.svg; returns its path."""
    with style.context(STYLE):
        figure = Figure(figsize=(10.5, 3.6), layout="constrained")
        plots = figure.subplots(1, len(_PANELS), sharey=True)
        for plot, (title, ratios) in zip(plots, _PANELS.items(), strict=True):
            _bars(plot, {name: ratios(case) for name, case in measured["models"].items()})
            plot.set_title(title)
        plots[0].set_ylabel("multiple of timm's own model")
        figure.legend(*plots[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        path = folder / "bench.svg"
        figure.savefig(path, metadata={"Date": None})
    return path


def _bars(plot: Axes, groups: dict[str, dict[str, Spread]]) -> None:
    """One group for each backbone, bars from 1 on; whiskers over the middle half of the rounds."""
    names = [name for name in next(iter(groups.values())) if name != PLAIN]
    width = 0.8 / len(names)
    for index, name in enumerate(names):
        found = [ratios[name] for ratios in groups.values()]
        whiskers = [
            [max(f.median - f.low, 0) for f in found],
            [max(f.high - f.median, 0) for f in found],
        ]
        places = [group + width * (index - (len(names) - 1) / 2) for group in range(len(groups))]
        heights = [f.median - 1 for f in found]
        plot.bar(
            places,
            heights,
            0.9 * width,
            bottom=1,
            yerr=whiskers,
            label=name,
            # a method beside its explicit form, which is hatched
            color=COLOURS[index // 2 % len(COLOURS)],
            hatch="///" if index % 2 else None,
            edgecolor="white",
            ecolor="#444444",
        )
    plot.axhline(1, color="black", linewidth=1)
    plot.set_axisbelow(True)
    plot.set_xticks(range(len(groups)), list(groups))
