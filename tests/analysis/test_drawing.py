"""Pictures as files."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from PIL import Image

from antioversmooth.analysis import drawing, overview
from antioversmooth.analysis.drawing import Picture
from antioversmooth.analysis.panels import Curve, PanelData, Style
from antioversmooth.analysis.record import Analysis

LINE = Curve("DeiT-S", "DeiT-S", [0, 1, 2], [0.25, 0.5, 1.0], [0.2, 0.4, 0.9], [0.3, 0.6, 1.1])
DASHED = Curve("DeiT-S, published (D)", "DeiT-S", [0, 1], [0.3, 0.4], style=Style.dashed)
POINTS = Curve("a head", "AttnScale", [1, 1], [0.1, 0.2], style=Style.points)
PICTURE = Picture(
    "similarity",
    "Similarity",
    ["MNIST-5k (mini profile), seed 0. " * 8],
    [
        PanelData("Tokens", "layer", "mean |cos|", True, [], [LINE, DASHED, POINTS]),
        PanelData("Spectrum", "frequency", "norm", False, [1, 2], [LINE, LINE]),
    ],
)


def test_a_picture_is_written_with_its_numbers(tmp_path: Path) -> None:
    paths = drawing.write_picture(PICTURE, tmp_path / "figures")
    assert [path.name for path in paths] == [
        f"similarity.{end}" for end in ("json", "csv", "png", "svg")
    ]
    value = json.loads(paths[0].read_text())
    assert value["panels"][0]["curves"][1]["style"] == "dashed"
    lines = list(csv.DictReader(io.StringIO(paths[1].read_text())))
    assert len(lines) == 3 + 2 + 2 + 3 + 3
    assert lines[0] == {
        "panel": "Tokens",
        "curve": "DeiT-S",
        "x": "0",
        "y": "0.25",
        "low": "0.2",
        "high": "0.3",
    }
    assert lines[3]["low"] == ""
    with Image.open(paths[2]) as image:
        assert image.width > 1000
        assert image.getpixel((0, 0))[:3] == (255, 255, 255)
    assert "mean |cos|" in paths[3].read_text(), "text stays text"


def test_the_same_numbers_are_the_same_bytes() -> None:
    assert drawing.draw(PICTURE) == drawing.draw(PICTURE)


def test_nothing_of_the_picture_is_cut_off() -> None:
    """The frame of the image is background all around, however long the notes are."""
    with Image.open(io.BytesIO(drawing.draw(PICTURE)["png"])) as image:
        width, height = image.size
        frame = [image.getpixel((x, y))[:3] for x in range(width) for y in (0, height - 1)]
        frame += [image.getpixel((x, y))[:3] for x in (0, width - 1) for y in range(height)]
    assert set(frame) == {(255, 255, 255)}


def plots(picture: Picture) -> list[Any]:
    """The axes of its panels, in their order, laid out."""
    canvas = drawing._figure(picture)
    canvas.draw_without_rendering()
    return [axes for axes in canvas.axes if axes.get_title(loc="left")]


def test_logarithmic_axes_have_plain_numbers_that_do_not_crowd() -> None:
    for values, expected in (
        ([0.25, 0.5, 1.0], ["0.3", "0.4", "0.6", "1"]),
        ([2e-4, 0.5, 70.0], ["0.001", "0.01", "0.1", "1", "10", "100"]),
    ):
        curve = Curve("a", "a", [0, 1, 2], values)
        panel = PanelData("A", "layer", "y", True, [], [curve])
        figure: Any = drawing._figure(replace(PICTURE, panels=[panel]))
        figure.canvas.draw()
        axis = figure.axes[0].yaxis
        low, high = sorted(axis.get_view_interval())
        ticks = sorted(
            [
                *zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True),
                *zip(axis.get_minorticklocs(), axis.get_ticklabels(minor=True), strict=True),
            ],
            key=lambda tick: float(tick[0]),
        )
        shown = [label.get_text() for place, label in ticks if low <= place <= high]
        assert [text for text in shown if text] == expected


def test_panels_of_one_quantity_have_one_scale() -> None:
    high = replace(LINE, y=[5.0, 7.0, 9.0], low=(), high=())
    panels = [
        PanelData("a", "layer", "cos", False, [], [curve], quantity=q)
        for curve, q in ((LINE, "c"), (high, "c"))
    ]
    other = PanelData("b", "layer", "norm", False, [], [high], quantity="n")
    one, two, three = (plot.get_ylim() for plot in plots(Picture("p", "P", [], [*panels, other])))
    assert one == two
    assert (one[0] < 0.2, one[1] > 9) == (True, True), "all of both"
    assert three != one


def test_one_legend_explains_all_panels_and_overlaps_none() -> None:
    panels = [PanelData(title, "layer", "cos", False, [], [LINE, DASHED]) for title in ("a", "b")]
    canvas = drawing._figure(Picture("p", "A title", ["A note."], panels))
    canvas.draw_without_rendering()
    (legend,) = canvas.legends
    assert [text.get_text() for text in legend.get_texts()] == [LINE.label, DASHED.label]
    box = legend.get_window_extent()
    for plot in canvas.axes:
        assert plot.get_legend() is None
        assert not box.overlaps(plot.get_tightbbox())
    title, note = canvas.texts
    assert not any(box.overlaps(text.get_window_extent()) for text in (title, note))


def test_titles_of_neighbouring_panels_do_not_overlap() -> None:
    """Two of the longest that there are."""
    titles = [
        f"Spectrum of the attention maps{more}"
        for more in (": DeiT-S + FeatScale, head 12", ", last layer")
    ]
    titles += ["Tokens: high over low frequencies"]
    for layers in ([], [1]):
        panels = [PanelData(title, "frequency", "norm", False, layers, [LINE]) for title in titles]
        shown = plots(Picture("p", "P", [], panels))
        boxes = [plot._left_title.get_window_extent() for plot in shown]
        assert not any(a.overlaps(b) for a, b in pairwise(boxes))
        assert boxes[-1].x1 < shown[0].figure.bbox.x1


def test_a_layer_has_one_colour_in_all_panels() -> None:
    """Also where a panel has fewer layers."""
    panels = [
        PanelData("a", "frequency", "norm", False, [1, 2, 3], [LINE, LINE, LINE]),
        PanelData("b", "frequency", "norm", False, [3], [LINE]),
    ]
    first, second = plots(Picture("p", "P", [], panels))
    colours = [[tuple(line.get_color()) for line in plot.lines] for plot in (first, second)]
    assert len(set(colours[0])) == 3
    assert colours[1] == colours[0][2:]


def test_the_value_of_an_identity_layer_is_a_line() -> None:
    panel = PanelData("a", "layer", "w", False, [], [LINE], unchanged=0.0)
    (plot,) = plots(Picture("p", "P", [], [panel]))
    assert list(plot.lines[0].get_ydata()) == [0.0, 0.0]
    assert plot.get_ylim()[0] < 0


def test_an_overview_shows_the_measures_that_exist() -> None:
    known = {"tokens/similarity": {1: 0.1, 2: 0.2}, "scales/w": {1: [0.1], 2: [0.2]}}
    pictures = overview.overview_pictures(Analysis("DeiT-S", "a.pt", 1000, 2, known))
    assert [picture.name for picture in pictures] == ["similarity", "scales"]
    assert [len(picture.panels) for picture in pictures] == [1, 1]
    assert pictures[0].notes == ["DeiT-S; weights a.pt; mean over 1,000 images."]
    assert overview.overview_pictures(Analysis("DeiT-S", "", 4, 2, known))[0].notes == [
        "DeiT-S; mean over 4 images."
    ]
    shown = overview.overview_pictures(
        Analysis("DeiT-S", "a.pt", 1000, 2, known, "MNIST-5k, mini profile")
    )[0]
    assert shown.title == "Similarity by layer: DeiT-S (MNIST-5k, mini profile)"
    assert shown.notes == [
        "DeiT-S; weights a.pt; mean over 1,000 images of MNIST-5k, mini profile."
    ]


def test_spectra_are_drawn_for_each_head_of_the_layers_that_have_it() -> None:
    """Swin's stages have more and more heads."""
    spectra = {1: [[1.0, 4.0, 2.0]], 2: [[1.0, 8.0, 2.0], [2.0, 4.0, 1.0]]}
    heads = overview.overview_pictures(Analysis("Swin", "", 1, 2, {"attention/spectrum": spectra}))[
        -1
    ]
    assert [(panel.title, len(panel.curves)) for panel in heads.panels] == [
        ("Head 1", 2),
        ("Head 2", 1),
    ]
    assert list(heads.panels[1].curves[0].y) == [0.5, 1.0, 0.25]
    assert drawing.draw(heads)["png"].startswith(b"\x89PNG")


def test_values_are_read_and_drawn_without_torch() -> None:
    """The control plane draws what was journaled on machines that have no GPU and no time."""
    program = (
        "import sys; from antioversmooth.analysis import drawing, overview, panels, record; from"
        " antioversmooth.reporting import figures; picture ="
        " overview.overview_pictures(record.Analysis('', '', 1, 1, {'tokens/similarity': {1:"
        " 0.5}}))[0]; assert 'matplotlib' not in sys.modules;"
        " drawing.draw(picture); assert not {'torch', 'timm', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_texts_are_drawn_as_they_are_whatever_matplotlib_or_svg_would_make_of_them() -> None:
    texts = ["$x_", "$\\frac{1}{2}$", "_hidden", "</text><script>", "a & b", "", "a\nb"]
    curves = [replace(LINE, label=text, group=text) for text in texts]
    panel = replace(PICTURE.panels[0], title="=1 $p_", curves=curves)
    picture = replace(PICTURE, title="\x1b]0;t\x07\x00\ud800$y_", notes=["$z_"], panels=[panel])
    drawn = drawing.draw(picture)
    svg = ElementTree.fromstring(drawn["svg"])
    shown = {
        " ".join("".join(text.itertext()).split()) for text in svg.iter() if "text" in text.tag
    }
    expected = {" ".join(text.split()) for text in texts if text}
    title = r"\u001b]0;t\u0007\u0000\ud800$y_"
    assert {*expected, title, "$z_", "=1 $p_"} <= shown
    assert "script" not in {element.tag.rpartition("}")[2] for element in svg.iter()}
    cells = {cell for line in csv.reader(io.StringIO(picture.csv())) for cell in line}
    assert "'=1 $p_" in cells
