"""Analyses as files."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from antioversmooth.analysis.record import Analysis

ANALYSIS = Analysis(
    title="DeiT-S",
    weights="step10.pt, sha256 0123456789ab",
    num_images=128,
    depth=2,
    measures={
        "tokens/similarity": {0: 0.1234567, 1: 0.5, 2: 0.75},
        "attention/spectrum": {1: [[1.0, 2.0], [3.0, 4.0]], 2: [[5.0, 6.0], [7.0, 8.0]]},
    },
)


def test_an_analysis_is_read_back_to_five_digits(tmp_path: Path) -> None:
    ANALYSIS.write(tmp_path)
    found = Analysis.read(tmp_path / "analysis.json")
    assert found is not None
    assert found.measures["tokens/similarity"] == {0: 0.12346, 1: 0.5, 2: 0.75}
    assert found.measures["attention/spectrum"] == ANALYSIS.measures["attention/spectrum"]
    assert (found.title, found.weights, found.num_images, found.depth) == (
        "DeiT-S",
        ANALYSIS.weights,
        128,
        2,
    )


def test_there_is_no_analysis_without_a_file(tmp_path: Path) -> None:
    assert Analysis.read(tmp_path / "analysis.json") is None


def test_the_csv_has_one_number_a_line_with_its_indices(tmp_path: Path) -> None:
    ANALYSIS.write(tmp_path)
    with (tmp_path / "analysis.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 3 + 8
    assert lines[0] == {
        "measure": "tokens/similarity",
        "layer": "0",
        "head": "",
        "channel": "",
        "frequency": "",
        "power": "",
        "value": "0.12346",
    }
    chosen = [
        li["value"] for li in lines if (li["layer"], li["head"], li["frequency"]) == ("2", "1", "0")
    ]
    assert chosen == ["7"]


def test_a_number_that_is_not_finite_is_refused() -> None:
    broken = Analysis("DeiT-S", "", 1, 1, {"tokens/similarity": {0: float("nan")}})
    with pytest.raises(ValueError, match="JSON"):
        broken.json()


MEASURED = '{"title": "t", "weights": "w", "num_images": 1, "depth": 1, "measures": %s}'


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "null", "[]", "{}", '{"title": 1}',
        MEASURED % '{"tokens/similarity": {"x": 1}}',
        MEASURED % '{"tokens/similarity": {"1": "x"}}',
        MEASURED % '{"attention/similarity": {"1": 1}}',
        MEASURED % '{"attention/similarity": 1}',
    ],
)  # fmt: skip
def test_a_file_that_is_no_analysis_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "analysis.json").write_text(text)
    assert Analysis.read(tmp_path / "analysis.json") is None
    (tmp_path / "analysis.json").write_text(MEASURED % '{"tokens/similarity": {"1": 1}}')
    assert Analysis.read(tmp_path / "analysis.json") is not None
