"""Figures, and the published curves in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from antioversmooth.config.checks import MISSING, rules
from antioversmooth.config.table import CONFIDENCES


class PanelKind(Enum):
    """What a panel of a figure draws; the measures behind it are those of
    `analysis.record.all_measures`."""

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
class ReferenceCurve:
    """A published curve, drawn beside a row's own where the row is measured in the paper's
    setting."""

    experiment: str = MISSING
    """The row that it stands beside."""
    first_layer: int = MISSING
    """Layer of the first value; 0 is what enters the first block."""
    values: list[float] = MISSING
    """One for each layer from there on."""
    source: str = MISSING
    """Where it was printed, and how it was read off."""
    confidence: str = MISSING
    """As of a `PaperValue`; never left out."""

    def __post_init__(self) -> None:
        with rules() as require:
            require(
                self.confidence in CONFIDENCES,
                "references.confidence",
                self.confidence,
                f"one of {', '.join(CONFIDENCES)}",
            )
            require(
                bool(self.source.strip()),
                "references.source",
                self.source,
                "a published curve needs its source",
            )


@dataclass
class Panel:
    """One pair of axes of a figure."""

    kind: PanelKind = MISSING
    """What is drawn."""
    layers: list[int] = field(default_factory=lambda: [-1])
    """Spectra and decays: of which layers; 1 is the first, -1 the last, none given: all."""
    head: int = 0
    """Of what each head has a value: of which head; 1 is the first, 0 the mean over all."""
    rows: list[str] = field(default_factory=list)
    """Experiments of the figure that are drawn; none given: all."""
    references: list[ReferenceCurve] = field(default_factory=list)
    """Published curves."""

    def __post_init__(self) -> None:
        with rules() as require:
            require(
                self.head >= 0, "panels.head", self.head, "1 is the first head, 0 the mean over all"
            )
            repeated = [layer for layer in self.layers if self.layers.count(layer) > 1]
            require(not repeated, "panels.layers", self.layers, "each layer at most once")


@dataclass
class FigureRow:
    """An experiment whose runs a figure compares."""

    experiment: str = MISSING
    """Name of the spec, beside the figures folder."""
    label: str = MISSING
    """What the legend says."""


@dataclass
class Figure:
    """A figure: which rows, and what is drawn of their runs."""

    name: str = MISSING
    """The file name without ending; names the rendered files."""
    title: str = MISSING
    """Above the panels."""
    caption: str = ""
    """What a reader must know to read it."""
    rows: list[FigureRow] = field(default_factory=list)
    """In the order of the legend."""
    panels: list[Panel] = field(default_factory=list)
    """From left to right."""

    def __post_init__(self) -> None:
        with rules() as require:
            names = [row.experiment for row in self.rows]
            require(bool(self.rows), "rows", [], "at least one row")
            require(bool(self.panels), "panels", [], "at least one panel")
            for i, name in enumerate(names):
                require(
                    name not in names[:i],
                    f"rows[{i}].experiment",
                    name,
                    "each experiment at most once",
                )
            right = f"an experiment of this figure: {', '.join(names)}"
            for i, panel in enumerate(self.panels):
                for j, name in enumerate(panel.rows):
                    require(name in names, f"panels[{i}].rows[{j}]", name, right)
                for j, reference in enumerate(panel.references):
                    key = f"panels[{i}].references[{j}].experiment"
                    require(reference.experiment in names, key, reference.experiment, right)
