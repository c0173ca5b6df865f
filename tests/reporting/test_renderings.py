"""Every format of one document, byte for byte, and the escaping of values in each."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fabricated import Lab

from antioversmooth.errors import UserError
from antioversmooth.reporting.rendering import cells, csv_file, gallery, latex, markdown, page
from antioversmooth.reporting.rendering.chart import Axis, Gain, gain_chart
from antioversmooth.reporting.table import columns, document, tables
from antioversmooth.reporting.table.columns import COLUMNS, Column
from antioversmooth.reporting.table.document import Document

RESULTS = Path(__file__).parents[2] / "results"
SPECS = (RESULTS.parent / "experiments" / "tables").glob("*.yaml")
COMMITTED = sorted(path for spec in SPECS for path in RESULTS.rglob(f"{spec.stem}.json"))


@pytest.fixture
def small(lab: Lab) -> Document:
    """The filled table, with fixed specs and ids, so that a new field changes no golden file."""
    lab.fill()
    made = lab.collect(0, 1)
    for row in made["rows"]:
        row["spec"] = (
            {"model": {"family": "vit", "depth": 24}, "revision": 1} if row["spec"] else None
        )
        for seed in row["seeds"]:
            seed["id"] = f"id-of-{row['experiment']}-{seed['seed']}"
    return made


@pytest.mark.parametrize("suffix", tables.FORMATS)
def test_golden(suffix: str, small: Document, golden: Callable[[str, str], None]) -> None:
    golden(f"small.{suffix}", tables.FORMATS[suffix](small))


@pytest.mark.parametrize("path", COMMITTED, ids=str)
def test_committed_tables_render_to_the_committed_bytes(path: Path) -> None:
    committed = document.load_document(path)
    for suffix, render in tables.FORMATS.items():
        assert path.with_suffix(f".{suffix}").read_text() == render(committed)


@pytest.mark.parametrize("path", sorted(RESULTS.glob("**/figures/index.html")), ids=str)
def test_committed_pages_of_figures_equal_the_rendering_of_their_pictures(path: Path) -> None:
    assert path.read_text() == gallery.render(gallery.TITLE, path.parent)


@pytest.mark.parametrize("path", COMMITTED, ids=str)
def test_ids_in_committed_tables_are_hashes_of_their_specs(path: Path) -> None:
    scratch = [
        row
        for row in document.load_document(path)["rows"]
        if row["seeds"] and not row["spec"]["recipe"]["init_from"]
    ]
    assert scratch
    # of others the id also holds the weights that they start from
    for row in scratch:
        for seed in row["seeds"]:
            science = json.dumps(
                {**row["spec"], "seed": seed["seed"]}, sort_keys=True, separators=(",", ":")
            )
            assert hashlib.sha256(science.encode()).hexdigest() == seed["id"]


def test_markdown_shows_special_characters_as_they_are() -> None:
    assert markdown.escape("a|b_c*d<e>\n`f`$g$") == r"a\|b\_c\*d\<e\> \`f\`\$g\$"
    assert markdown.escape("A & B, &lt;") == r"A & B, \&lt;"


def test_every_markdown_line_of_the_grid_has_as_many_cells(small: Document) -> None:
    lines = [line for line in markdown.render(small).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(small["rows"])
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


def test_latex_prints_special_characters_as_they_are() -> None:
    assert (
        latex.escape("50 % & #1_a {x} $y$ ~ ^ \\ <>")
        == r"50 \% \& \#1\_a \{x\} \$y\$ \textasciitilde{} \textasciicircum{} \textbackslash{}"
        r" \textless{}\textgreater{}"
    )
    assert latex.escape("1 ± 2 − 3 –") == r"1 $\pm$ 2 $-$ 3 --"
    assert latex.escape("Café中") == r"Café\ifx\Umathchar\undefined[U+4E2D]\else 中\fi{}"


def test_no_bracket_follows_a_latex_line_break(small: Document) -> None:
    assert not re.search(r"\\\\\s*\[", latex.render(small))


def test_no_value_becomes_markup_in_the_page(
    small: Document, outline: Callable[[str], Any]
) -> None:
    evil = '</script><script>alert(1)</script><b onmouseover="x">\'&'
    before = outline(page.render(small))
    small["title"] = small["notes"][0] = small["sources"][0] = small["caption"][0] = evil
    for row in small["rows"]:
        row["group"] = row["label"] = row["device"] = row["state"] = evil
        for seed in row["seeds"]:
            seed["problem"] = seed["state"] = seed["id"] = evil
    after = outline(page.render(small))
    assert after.tags.count("script") == before.tags.count("script")
    assert "b" not in after.tags
    assert evil in after.text


def test_the_page_fetches_nothing(small: Document) -> None:
    text = page.render(small)
    assert "default-src 'none'" in text
    assert not re.search(r"(src|href)=|url\(|@import|https?://", text)


def test_the_page_draws_curves_and_similarities_of_each_group(small: Document) -> None:
    text = page.render(small).partition("Accuracy after each epoch")[2]
    # two groups have curves, one has similarities
    assert text.count("<figure>") == 3
    # four done runs in both; of the stopped one a single point
    assert text.count("<polyline") == 8
    assert text.count("<circle") == 1


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.181, 0.2, ["0.185", "0.190", "0.195", "0.200"]),
        (1, 8, ["2", "4", "6", "8"]),
        (0.5, 1.5, ["0.6", "0.8", "1.0", "1.2", "1.4"]),
        (0, 4e-5, ["0", "1e-05", "2e-05", "3e-05", "4e-05"]),
    ],
)
def test_the_numbers_on_an_axis_are_as_long_as_each_other(
    low: float, high: float, labels: list[str]
) -> None:
    assert Axis(low, high, 0, 100).labels() == labels


def test_a_table_without_any_run_renders(lab: Lab) -> None:
    made = lab.collect()
    for render in tables.FORMATS.values():
        assert "missing" in render(made)
    assert cells.headings(made, cells.shown_columns(made)) == [
        "backbone",
        "model",
        "paper (ImageNet-1k)",
        "epochs",
        "state",
    ]


@pytest.fixture
def checkpoint_step() -> Iterator[Column]:
    """One more column in the registry: the last step."""
    column = Column(
        "checkpoint_step",
        "last step",
        measure=lambda row: row.results[0]["steps"] if row.results else None,
        sort="",
    )
    COLUMNS.append(column)
    yield column
    COLUMNS.remove(column)


def test_one_more_column_is_in_every_format(checkpoint_step: Column, lab: Lab) -> None:
    lab.fill()
    made = lab.collect(0, 1)
    assert [row["checkpoint_step"] for row in made["rows"]] == [32, 32, None, None]
    first = next(csv.DictReader(io.StringIO(csv_file.render(made))))
    assert first["checkpoint_step"] == "32"
    assert "| last step |" in markdown.render(made)
    assert "& last step &" in latex.render(made)
    assert "<span>last</span> <span>step</span>" in page.render(made)
    assert 'data-value="32">32<' in page.render(made)
    names = cells.headings(made, cells.shown_columns(made))
    assert names[-2:] == ["last step", "state"]


def test_csv_holds_full_precision(small: Document) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_file.render(small))))
    assert float(rows[0]["top1_std"]) == small["rows"][0]["top1"]["std"]
    assert rows[3]["state"] == "quoted"
    assert rows[3]["top1_mean"] == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-0.04, "−0.0"),
        (0.06, "+0.1"),
        (-1.26, "−1.3"),
        (0.0, "+0.0"),
        (-0.0, "+0.0"),
        (-3e-15, "+0.0"),
    ],
)
def test_the_sign_of_a_difference_survives_rounding(value: float, text: str) -> None:
    assert columns.signed(value, 1) == text


@pytest.mark.parametrize(
    ("value", "text"), [(22_050_664, "22.1"), (604_298, "0.604"), (1_234_567_890, "1,235")]
)
def test_significant(value: int, text: str) -> None:
    assert columns.significant(value, 0, 1e6) == text


def test_the_page_draws_gains_with_intervals_beside_the_papers_on_one_axis() -> None:
    gains = [Gain("a" * 70, 1.5, (-1.0, 4.0), 1.1), Gain("b", -2.0, None, None)]
    chart = gain_chart(gains)
    assert (chart.x.low, chart.x.high) == (-2.0, 4.0)
    assert [label for _, label in chart.ticks()] == ["-2", "0", "2", "4"]
    middle = chart.x.at(1.0)
    assert middle == pytest.approx((chart.x.at(-2.0) + chart.x.at(4.0)) / 2)
    assert chart.left < chart.x.at(-2.0) < chart.x.at(4.0) < chart.width
    assert chart.gains[0].label == "a" * 59 + "…"
    assert gain_chart([Gain("small", 0.3, (0.2, 0.4), None)]).x.low == 0, "0 is always there"


def test_gains_are_drawn_above_the_table_with_their_interval_where_there_is_one(
    small: Document,
) -> None:
    drawn = page.render(small)
    assert drawn.count('<line class="interval s0" x1=') == 1
    assert drawn.count('<circle class="hollow s1" cx="') == 2, "the paper's gain, and the legend"
    for row in small["rows"]:
        if row["gain"]:
            row["gain"]["interval"] = None
    undecided = page.render(small)
    assert "interval s0" not in undecided.partition('<ul class="legend">')[0]
    assert "gain, one seed: no interval" in undecided
    places = [undecided.index(part) for part in ("Gain of each row", "Accuracy after", "<table")]
    assert places == sorted(places)


def test_the_readme_block_is_replaced_and_nothing_else(small: Document, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- small:begin -->\nold\n<!-- small:end -->\nafter\n")
    assert markdown.update_readme(readme, small)
    text = readme.read_text()
    assert text.startswith("before\n<!-- small:begin mini 2 -->\n### ")
    assert text.endswith("<!-- small:end -->\nafter\n")
    assert "old" not in text
    assert not markdown.update_readme(readme, small)


def test_a_readme_has_a_block_for_each_table_with_the_columns_that_it_has_room_for(
    small: Document, tmp_path: Path
) -> None:
    readme = tmp_path / "README.md"
    other = "<!-- other:begin mini 3 -->\nthe other table\n<!-- other:end -->\n"
    readme.write_text(f"{other}<!-- small:begin -->\n<!-- small:end -->\n")
    assert markdown.update_readme(readme, small)
    text = readme.read_text()
    assert text.startswith(other)
    assert "| gain | within noise | params (M) | GMACs | state |" in text
    assert "device-hours" in markdown.render(small)
    assert "device-hours" not in text


def test_a_readme_keeps_the_table_with_more_measured_rows_whatever_its_words(
    small: Document, tmp_path: Path
) -> None:
    readme = tmp_path / "README.md"
    before = "<!-- small:begin imagenet 3 -->\nno table at all\n<!-- small:end -->\n"
    readme.write_text(before)
    with pytest.raises(UserError, match="has 3 measured rows, this one 2"):
        markdown.update_readme(readme, small)
    assert readme.read_text() == before
    assert markdown.update_readme(readme, small, may_lose=True)
    assert "begin mini 2 -->" in readme.read_text()


def test_a_readme_without_markers_is_left_alone(small: Document, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("<!-- small:end --> <!-- small:begin -->")
    with pytest.raises(UserError, match="needs one <!-- small:begin -->"):
        markdown.update_readme(readme, small)


def test_tables_of_other_experiments_do_not_overwrite_the_committed_one(
    lab: Lab, tmp_path: Path
) -> None:
    assert (
        tables.destination(lab.request("runtime.workers=0", "cluster.nodes=2"), lab.results)
        == lab.results / "mini"
    )
    altered = lab.request("recipe.base_lr=0.5")
    assert tables.destination(altered, lab.results) is None
    assert tables.destination(altered, lab.results, tmp_path) == tmp_path


def test_a_readme_without_markers_is_refused_and_left_alone(
    small: Document, tmp_path: Path
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("no table here\n")
    with pytest.raises(UserError, match="needs one <!-- small:begin -->"):
        markdown.update_readme(readme, small)
    assert markdown.readme_table(readme.read_text(), small) is None
    assert readme.read_text() == "no table here\n"
