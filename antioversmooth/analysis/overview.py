"""The figures that come with every analysis of a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from antioversmooth.analysis.drawing import Picture
from antioversmooth.analysis.panels import FigureRow, PanelData, panel_data
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
        "High frequencies that remain, and the theorems' bounds",
        (PanelKind.head_bound, PanelKind.layer_bound, PanelKind.residual_bound),
    ),
    "scales": ("Learned scales", (PanelKind.attention_scales, PanelKind.feature_scales)),
}
"""Title and panels, by the name of the files."""


def overview_pictures(analysis: Analysis) -> list[Picture]:
    """One picture for each entry of OVERVIEW that the analysis has values for."""
    pictures = []
    row = FigureRow(analysis.title, analysis.title, {0: analysis})
    images = f"images of {analysis.data}" if analysis.data else "images"
    weights = [f"weights {analysis.weights}"] if analysis.weights else []
    note = "; ".join([analysis.title, *weights, f"mean over {analysis.num_images:,} {images}."])
    model = f"{analysis.title} ({analysis.data})" if analysis.data else analysis.title
    for name, (title, kinds) in OVERVIEW.items():
        panels = [panel_data(Panel(kind, []), [row]) for kind in kinds]
        drawn = [panel for panel in panels if panel.curves]
        if drawn:
            pictures.append(Picture(name, f"{title}: {model}", [note], drawn))
    heads = list(_head_panels(row, analysis))
    if heads:
        title = f"Spectra of attention maps by head: {model}"
        pictures.append(Picture("heads", title, [note], heads))
    return pictures


def _head_panels(row: FigureRow, analysis: Analysis) -> Iterator[PanelData]:
    """A panel for each head, with the layers that have it."""
    num_heads = max(map(len, analysis.measures.get("attention/spectrum", {}).values()), default=0)
    for head in range(1, num_heads + 1):
        panel = panel_data(Panel(PanelKind.attention_spectrum, [], head), [row])
        yield replace(panel, title=f"Head {head}")
