"""The pictures that every analysis of a model comes with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from antioversmooth.analysis.drawing import Picture
from antioversmooth.analysis.panels import Axes, Row, axes
from antioversmooth.analysis.record import Analysis
from antioversmooth.config import Panel, PanelKind

OVERVIEW = {
    "similarity": (
        "Similarity by layer",
        (
            PanelKind.token_similarity,
            PanelKind.token_similarity_off_diagonal,
            PanelKind.attention_similarity,
            PanelKind.attention_similarity_off_diagonal,
        ),
    ),
    "spectra": ("Spectra by layer", (PanelKind.attention_spectrum, PanelKind.feature_spectrum)),
    "frequencies": ("High and low frequencies", (PanelKind.energy, PanelKind.decay)),
    "bounds": (
        "High frequencies left, and what the theorems let be left",
        (PanelKind.head_bound, PanelKind.layer_bound, PanelKind.residual_bound),
    ),
    "scales": ("Learned scales", (PanelKind.attention_scales, PanelKind.feature_scales)),
}
"""By name of the files: title and panels."""


def pictures(analysis: Analysis) -> list[Picture]:
    """One picture for each part of OVERVIEW that the model has something to show of."""
    found = []
    row = Row(analysis.title, analysis.title, [analysis])
    layers = list(range(1, analysis.depth + 1))
    note = f"{analysis.title}; weights {analysis.weights}; mean over {analysis.num_images:,} validation images."
    for name, (title, kinds) in OVERVIEW.items():
        panels = [axes(Panel(kind, layers), [row]) for kind in kinds]
        shown = [panel for panel in panels if panel.curves]
        if shown:
            found.append(Picture(name, f"{title}: {analysis.title}", [note], shown))
    heads = list(_heads(analysis, layers))
    if heads:
        found.append(Picture("heads", f"Spectra of attention maps by head: {analysis.title}", [note], heads))
    return found


def _heads(analysis: Analysis, layers: list[int]) -> Iterator[Axes]:
    """A panel for each head, of the layers that have it."""
    name = "attention/spectrum"
    spectra = analysis.measures.get(name, {})
    for head in range(max(map(len, spectra.values()), default=0)):
        values = {layer: [heads[head]] for layer, heads in spectra.items() if head < len(heads)}
        alone = Row(analysis.title, analysis.title, [replace(analysis, measures={name: values})])
        panel = Panel(PanelKind.attention_spectrum, [layer for layer in layers if layer in values])
        yield replace(axes(panel, [alone]), title=f"Head {head + 1}")
