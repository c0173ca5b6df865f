"""The pictures that every analysis of a model comes with."""

from __future__ import annotations

from antioversmooth.analysis.drawing import Picture
from antioversmooth.analysis.panels import Row, axes
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
    row = Row(analysis.title, analysis.title, [analysis])
    layers = list(range(1, analysis.depth + 1))
    note = f"{analysis.title}; weights {analysis.weights}; mean over {analysis.num_images:,} validation images."
    found = []
    for name, (title, kinds) in OVERVIEW.items():
        panels = [axes(Panel(kind, layers), [row]) for kind in kinds]
        shown = [panel for panel in panels if panel.curves]
        if shown:
            found.append(Picture(name, f"{title}: {analysis.title}", [note], shown))
    return found
