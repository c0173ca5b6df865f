"""Curves of a figure: values, bands and labels."""

from __future__ import annotations

import math
from typing import Any

import pytest

from antioversmooth.analysis.panels import FigureRow, Style, panel_data
from antioversmooth.analysis.record import Analysis
from antioversmooth.config import Panel, PanelKind, ReferenceCurve


def analysis(scale: float = 1.0, depth: int = 2, **added: dict[int, Any]) -> Analysis:
    """Numbers that can be followed by hand; `scale` multiplies all of them."""
    measures = {
        "tokens/similarity": {0: 0.1, 1: 0.2, 2: 0.4},
        "attention/similarity": {1: [0.2, 0.4], 2: [0.6, 0.8]},
        "tokens/dc_energy": {1: 2.0, 2: 4.0},
        "tokens/hc_energy": {1: 1.0, 2: 1.0},
        "attention/spectrum": {
            1: [[1.0, 2.0, 8.0, 3.0], [1.0, 2.0, 8.0, 3.0]],
            2: [[2.0, 2.0, 4.0, 2.0]] * 2,
        },
        "tokens/amplitude": {1: [1.0, 2.0, 10.0, 1.0], 2: [1.0, 2.0, 10.0, 100.0]},
        "decay/hc": {1: [[4.0, 1.0], [2.0, 1.0]], 2: [[4.0, 1.0]] * 2},
        "decay/dc": {1: [[1.0, 1.0], [2.0, 1.0]], 2: [[1.0, 1.0]] * 2},
        "bounds/input": {1: 2.0, 2: 4.0},
        "bounds/head/measured": {1: [1.0, 3.0], 2: [1.0, 1.0]},
        "bounds/head/bound": {1: [6.0, 6.0], 2: [8.0, 8.0]},
        "bounds/layer/measured": {1: 3.0, 2: 4.0},
        "bounds/layer/bound": {1: 6.0, 2: 8.0},
    }
    scaled = {
        name: {layer: _times(value, scale) for layer, value in layers.items()}
        for name, layers in measures.items()
    }
    return Analysis(
        "", "", 1, depth, {**scaled, **{name.replace("_", "/"): v for name, v in added.items()}}
    )


def _times(value: Any, scale: float) -> Any:
    return [_times(item, scale) for item in value] if isinstance(value, list) else value * scale


def row(*seeds: Analysis, label: str = "DeiT-S") -> FigureRow:
    return FigureRow(label.lower(), label, dict(enumerate(seeds)))


def test_a_value_for_each_layer() -> None:
    (curve,) = panel_data(Panel(PanelKind.token_similarity), [row(analysis())]).curves
    assert (list(curve.x), list(curve.y)) == ([0, 1, 2], [0.1, 0.2, 0.4])
    (curve,) = panel_data(Panel(PanelKind.attention_similarity), [row(analysis())]).curves
    assert list(curve.y) == pytest.approx([0.3, 0.7]), "the mean over heads"
    (curve,) = panel_data(Panel(PanelKind.energy), [row(analysis())]).curves
    assert list(curve.y) == [0.5, 0.25]


def test_differences_are_between_runs_of_the_same_seed() -> None:
    """Seeds 0 and 1 differ by more than the method does, and seed 2 has no baseline."""
    rows = [
        row(analysis(), analysis(3.0)),
        row(analysis(2.0), analysis(4.5), analysis(99.0), label="FeatScale"),
        FigureRow("other", "AttnScale", {7: analysis()}),
    ]
    panel = panel_data(Panel(PanelKind.token_similarity_difference), rows)
    (curve,) = panel.curves
    assert (panel.unchanged, curve.label) == (0.0, "FeatScale")
    assert list(curve.y) == pytest.approx([0.125, 0.25, 0.5])
    assert list(curve.low) == pytest.approx([0.1, 0.2, 0.4])
    assert list(curve.high) == pytest.approx([0.15, 0.3, 0.6])


def test_several_seeds_are_their_mean_in_a_band() -> None:
    (curve,) = panel_data(
        Panel(PanelKind.token_similarity), [row(analysis(), analysis(3.0))]
    ).curves
    assert list(curve.y) == pytest.approx([0.2, 0.4, 0.8])
    assert list(curve.low) == pytest.approx([0.1, 0.2, 0.4])
    assert list(curve.high) == pytest.approx([0.3, 0.6, 1.2])


def test_a_spectrum_is_relative_to_its_largest_with_dc_at_zero() -> None:
    drawn = panel_data(Panel(PanelKind.attention_spectrum), [row(analysis())])
    assert drawn.title.endswith("last layer")
    (curve,) = drawn.curves
    assert list(curve.x) == [-2, -1, 0, 1]
    assert list(curve.y) == [0.5, 0.5, 1, 0.5]
    (curve,) = panel_data(Panel(PanelKind.feature_spectrum, [1]), [row(analysis())]).curves
    assert (list(curve.x), list(curve.y)) == ([0.5], [-1.0])


def test_layers_of_one_model_are_curves_of_their_own() -> None:
    drawn = panel_data(Panel(PanelKind.decay, [1, 2]), [row(analysis())])
    assert drawn.layers == [1, 2]
    assert [list(curve.y) for curve in drawn.curves] == [[2.0, 1.0], [4.0, 1.0]]
    assert panel_data(Panel(PanelKind.decay, [1, -1]), [row(analysis())]).layers == [1, 2], (
        "counted from the input side"
    )
    labels = [
        c.label
        for c in panel_data(
            Panel(PanelKind.decay, [1, -1]), [row(analysis()), row(analysis(), label="B")]
        ).curves
    ]
    assert labels == ["DeiT-S, layer 1", "DeiT-S, last layer", "B, layer 1", "B, last layer"]


def test_all_layers_are_the_default_and_layer_0_is_the_input() -> None:
    assert panel_data(Panel(PanelKind.decay, []), [row(analysis(depth=2))]).layers == [1, 2]
    entered = analysis(tokens_amplitude={0: [1.0, 2.0, 10.0, 1.0]})
    (curve,) = panel_data(Panel(PanelKind.feature_spectrum, [0]), [row(entered)]).curves
    assert list(curve.y) == [-1.0]


def test_one_head_is_shown_in_the_layers_that_have_it() -> None:
    spectra = {1: [[1.0, 4.0]], 2: [[1.0, 8.0], [2.0, 4.0]]}
    found = row(analysis(**{"attention/spectrum": spectra}))
    second = panel_data(Panel(PanelKind.attention_spectrum, [], head=2), [found])
    assert (second.title, second.layers) == ("Spectrum of the attention maps, head 2", [2])
    assert [list(curve.y) for curve in second.curves] == [[0.5, 1.0]]
    (curve,) = panel_data(Panel(PanelKind.attention_similarity, head=2), [row(analysis())]).curves
    assert list(curve.y) == [0.4, 0.8]
    assert panel_data(Panel(PanelKind.attention_similarity, head=3), [row(analysis())]).curves == []


def test_a_panel_shows_the_rows_that_it_names() -> None:
    rows = [row(analysis()), row(analysis(2.0), label="B")]
    panel = panel_data(Panel(PanelKind.decay, [], rows=["b"]), rows)
    assert (panel.title, panel.layers) == ("Theorem 1: powers of the attention maps: B", [1, 2])
    assert [list(curve.y) for curve in panel.curves] == [[2.0, 1.0], [4.0, 1.0]]
    assert [
        curve.label for curve in panel_data(Panel(PanelKind.energy, rows=["b"]), rows).curves
    ] == ["B"]


def test_kinds_of_one_quantity_share_its_name() -> None:
    """Such panels are drawn to one scale."""
    cosines = [
        kind for kind in PanelKind if "similarity" in kind.value and "difference" not in kind.value
    ]
    left = [kind for kind in PanelKind if kind.value.endswith("bound")]
    for kinds, number in ((cosines, 4), (left, 3)):
        assert len(kinds) == number
        assert len({panel_data(Panel(kind), [row(analysis())]).quantity for kind in kinds}) == 1
    assert len({panel_data(Panel(kind), [row(analysis())]).quantity for kind in PanelKind}) == 8
    both = [
        panel_data(Panel(PanelKind.decay, [], rows=[name]), [row(analysis(), label=name)])
        for name in "ab"
    ]
    assert both[0].quantity == both[1].quantity


def test_bounds_are_dashed_beside_the_measured_curve() -> None:
    measured, bound = panel_data(Panel(PanelKind.head_bound), [row(analysis())]).curves
    assert (list(measured.y), list(bound.y)) == ([1.0, 0.25], [3.0, 2.0])
    assert (measured.style, bound.style) == (Style.line, Style.dashed)
    assert measured.group == bound.group
    assert panel_data(Panel(PanelKind.head_bound), [row(analysis())]).unchanged == 1


def test_rows_without_the_measure_are_omitted() -> None:
    plain, scaled = (
        row(analysis()),
        row(analysis(scales_w={1: [0.1, 0.3], 2: [0.0, 0.2]}), label="AttnScale"),
    )
    drawn = panel_data(Panel(PanelKind.attention_scales), [plain, scaled])
    heads, mean = drawn.curves
    assert (heads.label, mean.label, drawn.unchanged) == (
        "AttnScale, one head",
        "AttnScale, mean",
        0,
    )
    assert heads.style is Style.points
    assert list(zip(heads.x, heads.y, strict=True)) == [(1, 0.1), (1, 0.3), (2, 0.0), (2, 0.2)]
    assert list(mean.y) == pytest.approx([0.2, 0.1])


def test_feature_scales_are_means_over_channels_in_a_band_of_nine_in_ten() -> None:
    channels = [index / 100 for index in range(100)]
    feat = analysis(scales_s={1: [0.0] * 100}, scales_t={1: channels})
    s, t = panel_data(Panel(PanelKind.feature_scales), [row(feat)]).curves
    assert (s.label, t.label) == ("ks (DC)", "kt (HC)")
    assert (list(t.y), list(t.low), list(t.high)) == ([pytest.approx(0.495)], [0.05], [0.94])


REFERENCE = ReferenceCurve(
    experiment="deit-s", first_layer=0, values=[0.2, 0.3], source="a plot", confidence="D"
)


def test_published_curves_are_drawn_only_where_they_are_comparable() -> None:
    panel = Panel(PanelKind.token_similarity, references=[REFERENCE])
    assert len(panel_data(panel, [row(analysis())]).curves) == 1
    ours, published = panel_data(panel, [row(analysis())], published=True).curves
    assert published.label == "DeiT-S, published (D)"
    assert published.group == ours.group
    assert (list(published.x), list(published.y)) == ([0, 1], [0.2, 0.3])


def test_a_published_curve_of_a_row_that_is_not_done_waits_for_it() -> None:
    panel = Panel(PanelKind.token_similarity, references=[REFERENCE])
    assert [
        c.label for c in panel_data(panel, [row(analysis(), label="B")], published=True).curves
    ] == ["B"]


@pytest.mark.parametrize("kind", PanelKind)
def test_every_kind_of_an_analysis_without_it_is_empty_and_no_error(kind: PanelKind) -> None:
    assert panel_data(Panel(kind), [row(Analysis("", "", 1, 2, {}))]).curves == []


@pytest.mark.parametrize("kind", PanelKind)
def test_every_kind_gives_finite_numbers_of_one_length(kind: PanelKind) -> None:
    full = analysis(
        scales_w={1: [0.1]},
        scales_s={1: [0.1]},
        scales_t={1: [0.1]},
        **{"tokens/off_diagonal": {1: 0.1}},
    )
    for curve in panel_data(Panel(kind), [row(full, full)]).curves:
        assert len(curve.x) == len(curve.y)
        assert len(curve.low) == len(curve.high)
        assert all(math.isfinite(value) for value in (*curve.x, *curve.y, *curve.low, *curve.high))
