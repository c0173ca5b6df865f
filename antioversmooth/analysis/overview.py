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
    images = f"validation images of {analysis.data}" if analysis.data else "images"
    weights = [f"weights {analysis.weights}"] if analysis.weights else []
    note = "; ".join([analysis.title, *weights, f"mean over {analysis.num_images:,} {images}."])
    model = f"{analysis.title} ({analysis.data})" if analysis.data else analysis.title
    for name, (title, kinds) in OVERVIEW.items():
        panels = [axes(Panel(kind, []), [row]) for kind in kinds]
        shown = [panel for panel in panels if panel.curves]
        if shown:
            found.append(Picture(name, f"{title}: {model}", [note], shown))
    heads = list(_heads(row, analysis))
    if heads:
        found.append(Picture("heads", f"Spectra of attention maps by head: {model}", [note], heads))
    return found


def _heads(row: Row, analysis: Analysis) -> Iterator[Axes]:
    """A panel for each head, of the layers that have it."""
    num_heads = max(map(len, analysis.measures.get("attention/spectrum", {}).values()), default=0)
    for head in range(1, num_heads + 1):
        yield replace(
            axes(Panel(PanelKind.attention_spectrum, [], head), [row]), title=f"Head {head}"
        )
