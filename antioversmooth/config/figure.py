"""Figures, and the published curves in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from antioversmooth.config.rules import Broken, Config, rule
from antioversmooth.config.table import CONFIDENCES
from antioversmooth.constraints import (
    MISSING,
    at_least,
    distinct,
    file_name,
    not_blank,
    not_empty,
    one_of,
    option,
)


class PanelKind(Enum):
    """The content of a panel; its measures are those of `analysis/`."""

    token_similarity = "token_similarity"
    token_similarity_off_diagonal = "token_similarity_off_diagonal"
    token_similarity_difference = "token_similarity_difference"
    attention_similarity = "attention_similarity"
    attention_similarity_off_diagonal = "attention_similarity_off_diagonal"
    energy = "energy"
    attention_spectrum = "attention_spectrum"
    feature_spectrum = "feature_spectrum"
    decay = "decay"
    head_bound = "head_bound"
    layer_bound = "layer_bound"
    residual_bound = "residual_bound"
    attention_scales = "attention_scales"
    feature_scales = "feature_scales"


@dataclass
class ReferenceCurve(Config, section="references"):
    """A published curve, drawn with a row's own curve where the setting is the paper's."""

    experiment: str = MISSING
    """The row with which it is compared."""
    first_layer: int = MISSING
    """Layer of the first value; 0 is what enters the first block."""
    values: list[float] = MISSING
    """One value for each layer from there on."""
    source: str = option(MISSING, not_blank("the source of the curve"))
    """Where it was printed, and how it was digitised."""
    confidence: str = option(MISSING, one_of(*CONFIDENCES))
    """V, Q, C, M or D, as in a `PaperValue`."""


@dataclass
class Panel(Config, section="panels"):
    """One pair of axes of a figure."""

    kind: PanelKind = MISSING
    """The measure that is drawn."""
    layers: list[int] = option([-1], distinct("layer"))
    """Layers of spectra and decays; 1 is the first, -1 the last; empty: all."""
    head: int = option(0, at_least(0))
    """Head of measures by head; 1 is the first, 0 the mean over all."""
    rows: list[str] = option([])
    """Experiments of the figure that are drawn; empty: all."""
    references: list[ReferenceCurve] = option([])
    """Published curves."""


@dataclass
class FigureRow(Config, section="rows"):
    """An experiment whose runs a figure compares."""

    experiment: str = MISSING
    """Name of its spec."""
    label: str = option(prose=True)
    """Text in the legend."""


@dataclass
class Figure(Config):
    """A figure: which rows, and what is drawn of their runs."""

    name: str = option(MISSING, file_name())
    """The file name without ending; names the rendered files."""
    title: str = option(prose=True)
    """Above the panels."""
    caption: str = option("", prose=True)
    """Text below the panels."""
    rows: list[FigureRow] = option([], not_empty("row"))
    """In the order of the legend."""
    panels: list[Panel] = option([], not_empty("panel"))
    """From left to right."""

    @rule("rows", "rows[].experiment")
    def _each_experiment_once(self) -> Iterator[Broken]:
        names = [row.experiment for row in self.rows]
        for i, name in enumerate(names):
            if name in names[:i]:
                yield Broken(f"rows[{i}].experiment", name, "each experiment at most once")

    @rule(
        "rows",
        "rows[].experiment",
        "panels",
        "panels[].rows",
        "panels[].references",
        "panels[].references[].experiment",
    )
    def _panels_draw_rows_of_the_figure(self) -> Iterator[Broken]:
        names = [row.experiment for row in self.rows]
        expected = f"an experiment of this figure: {', '.join(names)}"
        for i, panel in enumerate(self.panels):
            for j, name in enumerate(panel.rows):
                if name not in names:
                    yield Broken(f"panels[{i}].rows[{j}]", name, expected)
            for j, curve in enumerate(panel.references):
                if curve.experiment not in names:
                    key = f"panels[{i}].references[{j}].experiment"
                    yield Broken(key, curve.experiment, expected)
