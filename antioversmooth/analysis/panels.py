"""The curves of a panel, computed from analyses; plain values, without torch or drawing."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, NamedTuple

from antioversmooth.analysis.record import Analysis, all_measures
from antioversmooth.config import Panel, PanelKind

Points = dict[float, float]
"""Values by their x coordinate."""


@dataclass(frozen=True)
class FigureRow:
    """One experiment in a figure."""

    experiment: str
    label: str
    by_seed: Mapping[int, Analysis]
    """Analyses of its runs."""

    @property
    def seeds(self) -> list[Analysis]:
        """The analyses, one for each seed."""
        return list(self.by_seed.values())


class Style(Enum):
    """Style of a curve; its group decides its colour."""

    line = "line"
    dashed = "dashed"
    points = "points"


@dataclass(frozen=True)
class Curve:
    """Values along the x axis; of several seeds the mean, in a band from the lowest to the
    highest."""

    label: str
    group: str
    """Curves of one group share a colour."""
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    """Lower edge of the band; empty: no band."""
    high: Sequence[float] = ()
    style: Style = Style.line


@dataclass(frozen=True)
class PanelData:
    """A panel with its curves, labels and axes."""

    title: str
    x_label: str
    y_label: str
    logarithmic: bool
    """Whether the y axis is logarithmic."""
    layers: list[int]
    """The layer of each curve; empty if the curves are of rows."""
    curves: list[Curve]
    quantity: str = ""
    """Panels of one picture with the same quantity share the y axis."""
    unchanged: float | None = None
    """Value of a layer that is the identity, drawn as a reference line."""


def panel_data(panel: Panel, rows: Sequence[FigureRow], *, published: bool = False) -> PanelData:
    """The curves of a panel; rows, layers and heads without the measure are omitted.

    Args:
        published: Whether to add published curves, which is right in the paper's setting only.
    """
    kind = _KINDS[panel.kind]
    shown = [row for row in rows if not panel.rows or row.experiment in panel.rows]
    if panel.head:
        shown = [
            replace(
                row, by_seed={n: _select_head(one, panel.head) for n, one in row.by_seed.items()}
            )
            for row in shown
        ]
    depth = max((seed.depth for row in shown for seed in row.seeds), default=0)
    layers = panel.layers or list(range(1, depth + 1))
    drawn = list(kind.curves(shown, layers))
    coloured = []
    if panel.kind in _WITHIN_LAYERS and len(shown) == 1 and len(layers) > 1:
        pairs = zip(layers, drawn, strict=True)
        coloured = [_layer_number(layer, depth) for layer, curve in pairs if curve.y]
    curves = [curve for curve in drawn if curve.y]
    if published:
        curves += _published(panel, shown)
    return PanelData(
        _title(panel, kind.title, shown, layers),
        kind.x_label,
        kind.y_label,
        kind.logarithmic,
        coloured,
        curves,
        kind.quantity or kind.title,
        kind.unchanged,
    )


def _title(panel: Panel, title: str, rows: Sequence[FigureRow], layers: Sequence[int]) -> str:
    parts = [f"head {panel.head}"] if panel.head else []
    if panel.kind in _WITHIN_LAYERS and len(layers) == 1:
        parts.append(_layer_name(layers[0]))
    if panel.rows and len(rows) == 1:
        title = f"{title}: {rows[0].label}"
    return ", ".join([title, *parts])


def _select_head(analysis: Analysis, head: int) -> Analysis:
    """The analysis of one head only, in the layers that have it."""
    known = all_measures()
    narrowed = {
        name: {
            layer: heads[head - 1 : head] for layer, heads in layers.items() if len(heads) >= head
        }
        for name, layers in analysis.measures.items()
        if known[name].axes[:1] == ("head",)
    }
    return replace(analysis, measures={**analysis.measures, **narrowed})


def _layer_number(layer: int, depth: int) -> int:
    """Number of a layer from 1; negative layers count from the end."""
    return layer if layer >= 0 else depth + 1 + layer


def _layer_name(layer: int) -> str:
    if layer == -1:
        return "last layer"
    return f"layer {layer}" if layer >= 0 else f"layer {-layer} from the end"


def _published(panel: Panel, rows: Sequence[FigureRow]) -> Iterator[Curve]:
    labels = {row.experiment: row.label for row in rows}
    for curve in panel.references:
        if curve.experiment in labels:
            label = labels[curve.experiment]
            name = f"{label}, published ({curve.confidence})"
            x = [float(curve.first_layer + index) for index in range(len(curve.values))]
            yield Curve(name, label, x, list(curve.values), style=Style.dashed)


Curves = Callable[[Sequence[FigureRow], Sequence[int]], Iterator[Curve]]
"""Makes the curves of rows; of the given layers if a layer has several values."""


class _Kind(NamedTuple):
    title: str
    y_label: str
    curves: Curves
    x_label: str = "layer"
    logarithmic: bool = False
    quantity: str = ""
    """Quantity on the y axis, if several kinds share it."""
    unchanged: float | None = None


def _merged(
    label: str, seeds: Sequence[Points], *, group: str = "", style: Style = Style.line
) -> Curve:
    """The curve of the mean over seeds."""
    xs = _common_keys(seeds)
    columns = [[seed[x] for seed in seeds] for x in xs]
    mean = [statistics.mean(column) for column in columns]
    low, high = (list(map(min, columns)), list(map(max, columns))) if len(seeds) > 1 else ((), ())
    return Curve(label, group or label, xs, mean, low, high, style)


def _common_keys(seeds: Sequence[dict[Any, Any]]) -> list[Any]:
    """Keys that all seeds have."""
    return sorted(set.intersection(*map(set, seeds))) if seeds else []


# -- one value for each layer ----------------------------------------------------------------------


def _each_layer(values: Callable[[Analysis], Points]) -> Curves:
    def curves(rows: Sequence[FigureRow], layers: Sequence[int]) -> Iterator[Curve]:
        for row in rows:
            yield _merged(row.label, [values(seed) for seed in row.seeds])

    return curves


def _difference(values: Callable[[Analysis], Points]) -> Curves:
    """Differences from the first row at the same seed; a row without a common seed has none."""

    def curves(rows: Sequence[FigureRow], layers: Sequence[int]) -> Iterator[Curve]:
        first = {seed: values(analysis) for seed, analysis in rows[0].by_seed.items()}
        for row in rows[1:]:
            common = [seed for seed in row.by_seed if seed in first]
            pairs = [(values(row.by_seed[seed]), first[seed]) for seed in common]
            differences = [{x: y[x] - base[x] for x in y if x in base} for y, base in pairs]
            yield _merged(row.label, differences)

    return curves


def _by_layer(name: str) -> Callable[[Analysis], Points]:
    return lambda analysis: {
        float(layer): value for layer, value in analysis.measures.get(name, {}).items()
    }


def _over_heads(name: str) -> Callable[[Analysis], Points]:
    return lambda analysis: {
        k: statistics.mean(v) for k, v in analysis.measures.get(name, {}).items()
    }


def _energy(analysis: Analysis) -> Points:
    dc = analysis.measures.get("tokens/dc_energy", {})
    hc = analysis.measures.get("tokens/hc_energy", {})
    return {layer: hc[layer] / dc[layer] for layer in hc}


# -- a list of values within a layer ---------------------------------------------------------------


def _within_layers(values: Callable[[Analysis, int], Points]) -> Curves:
    def curves(rows: Sequence[FigureRow], layers: Sequence[int]) -> Iterator[Curve]:
        for row in rows:
            for layer in layers:
                found = [values(seed, _layer_number(layer, seed.depth)) for seed in row.seeds]
                parts = [row.label] * (len(rows) > 1) + [_layer_name(layer)] * (len(layers) > 1)
                yield _merged(", ".join(parts or [row.label]), found)

    return curves


def _map_spectrum(analysis: Analysis, layer: int) -> Points:
    """Mean over heads, relative to the largest value."""
    heads = analysis.measures.get("attention/spectrum", {}).get(layer, [])
    means = [statistics.mean(column) for column in zip(*heads, strict=True)]
    return {index - len(means) // 2: value / max(means) for index, value in enumerate(means)}


def _token_spectrum(analysis: Analysis, layer: int) -> Points:
    """log10 of amplitude over the DC amplitude, by frequency relative to the highest.

    Only positive frequencies: the spectrum is symmetric.
    """
    values = analysis.measures.get("tokens/amplitude", {}).get(layer, [])
    dc = len(values) // 2
    return {
        (index - dc) / dc: math.log10(values[index] / values[dc])
        for index in range(dc + 1, len(values))
    }


def _decay(analysis: Analysis, layer: int) -> Points:
    """|HC| over |DC| of A^t X, mean over heads."""
    hc = analysis.measures.get("decay/hc", {}).get(layer, [])
    dc = analysis.measures.get("decay/dc", {}).get(layer, [])
    pairs = zip(zip(*hc, strict=True), zip(*dc, strict=True), strict=True)
    return {power: sum(high) / sum(low) for power, (high, low) in enumerate(pairs)}


# -- bounds ----------------------------------------------------------------------------------------


def _bounds(level: str) -> Curves:
    """High frequencies after the layer over those of its input: measured, and the bound."""

    def share(analysis: Analysis, side: str) -> Points:
        inputs = analysis.measures.get("bounds/input", {})
        sides = analysis.measures.get(f"bounds/{level}/{side}", {})
        return {
            layer: (statistics.mean(value) if isinstance(value, list) else value) / inputs[layer]
            for layer, value in sides.items()
        }

    def curves(rows: Sequence[FigureRow], layers: Sequence[int]) -> Iterator[Curve]:
        for row in rows:
            for side, label, style in (
                ("measured", row.label, Style.line),
                ("bound", f"{row.label}, bound", Style.dashed),
            ):
                name = side if len(rows) == 1 else label
                found = [share(seed, side) for seed in row.seeds]
                yield _merged(name, found, group=row.label, style=style)

    return curves


# -- scales ----------------------------------------------------------------------------------------


def _attention_scales(rows: Sequence[FigureRow], layers: Sequence[int]) -> Iterator[Curve]:
    """A point for each head and seed, and a line through their means."""
    for row in rows:
        seeds = [seed.measures.get("scales/w", {}) for seed in row.seeds]
        x = [float(layer) for seed in seeds for layer, heads in seed.items() for _ in heads]
        y = [w for seed in seeds for heads in seed.values() for w in heads]
        yield Curve(f"{row.label}, one head", row.label, x, y, style=Style.points)
        means = list(map(_over_heads("scales/w"), row.seeds))
        yield _merged(f"{row.label}, mean", means, group=row.label)


def _feature_scales(rows: Sequence[FigureRow], layers: Sequence[int]) -> Iterator[Curve]:
    """Means over channels and seeds, in a band from the 5th to the 95th percentile."""
    for row in rows:
        for name, part, style in (
            ("scales/s", "ks (DC)", Style.dashed),
            ("scales/t", "kt (HC)", Style.line),
        ):
            found = [seed.measures.get(name, {}) for seed in row.seeds]
            x = _common_keys(found)
            columns = [sorted(v for seed in found for v in seed[layer]) for layer in x]
            mean = [statistics.mean(column) for column in columns]
            low = [column[len(column) // 20] for column in columns]
            high = [column[-1 - len(column) // 20] for column in columns]
            label = part if len(rows) == 1 else f"{row.label}, {part}"
            yield Curve(label, f"{row.label}, {part}", x, mean, low, high, style)


def _bound_kind(title: str, level: str) -> _Kind:
    """Panel of one of the theorems on the high frequencies that remain."""
    return _Kind(
        title,
        "|HC| behind / |HC| in front",
        _bounds(level),
        logarithmic=True,
        quantity="high frequencies left",
        unchanged=1.0,
    )


_KINDS = {
    PanelKind.token_similarity: _Kind(
        "Tokens, the authors' definition",
        "mean |cos| over all pairs",
        _each_layer(_by_layer("tokens/similarity")),
        quantity="cosine",
    ),
    PanelKind.token_similarity_off_diagonal: _Kind(
        "Patch tokens, off the diagonal",
        "mean cos over pairs i ≠ j",
        _each_layer(_by_layer("tokens/off_diagonal")),
        quantity="cosine",
    ),
    PanelKind.token_similarity_difference: _Kind(
        "Tokens, against the baseline",
        "mean |cos| minus the baseline's",
        _difference(_by_layer("tokens/similarity")),
        unchanged=0.0,
    ),
    PanelKind.attention_similarity: _Kind(
        "Attention maps, the authors' definition",
        "mean |cos| over all pairs of rows",
        _each_layer(_over_heads("attention/similarity")),
        quantity="cosine",
    ),
    PanelKind.attention_similarity_off_diagonal: _Kind(
        "Attention maps, off the diagonal",
        "mean cos over pairs of rows i ≠ j",
        _each_layer(_over_heads("attention/off_diagonal")),
        quantity="cosine",
    ),
    PanelKind.energy: _Kind(
        "Tokens: high over low frequencies",
        "|HC[X]|² / |DC[X]|²",
        _each_layer(_energy),
        logarithmic=True,
    ),
    PanelKind.attention_spectrum: _Kind(
        "Spectrum of the attention maps",
        "row norm of F A Fᵀ / its largest",
        _within_layers(_map_spectrum),
        x_label="frequency",
        logarithmic=True,
    ),
    PanelKind.feature_spectrum: _Kind(
        "Spectrum of the tokens",
        "log₁₀(amplitude / that of DC)",
        _within_layers(_token_spectrum),
        x_label="frequency as a share of the highest",
    ),
    PanelKind.decay: _Kind(
        "Theorem 1: powers of the attention maps",
        "|HC[Aᵗ X]| / |DC[Aᵗ X]|",
        _within_layers(_decay),
        x_label="t",
        logarithmic=True,
    ),
    PanelKind.head_bound: _bound_kind("Theorem 3: one head", "head"),
    PanelKind.layer_bound: _bound_kind("Proposition 4: all heads", "layer"),
    PanelKind.residual_bound: _bound_kind("Proposition 5: with the residual", "residual"),
    PanelKind.attention_scales: _Kind(
        "AttnScale: 1 + w on HC", "w", _attention_scales, quantity="scale", unchanged=0.0
    ),
    PanelKind.feature_scales: _Kind(
        "FeatScale: 1 + ks on DC, 1 + kt on HC",
        "mean and 90 % of the channels",
        _feature_scales,
        quantity="scale",
        unchanged=0.0,
    ),
}
_WITHIN_LAYERS = (PanelKind.attention_spectrum, PanelKind.feature_spectrum, PanelKind.decay)
