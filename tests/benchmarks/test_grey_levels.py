"""The differences that tables note are those that the benchmark measures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from antioversmooth import spec
from antioversmooth.config import Experiment
from antioversmooth.reporting.table.deviations import CACHE_LEVELS, FAST_LEVELS, MOVES_LEVELS
from benchmarks.grey_levels import differences
from benchmarks.pipeline import write_photographs
from benchmarks.suite import Effort


@pytest.fixture
def row(experiments: Path) -> Experiment:
    return spec.load_experiment(experiments / "deit_s12.yaml", [])


def test_tables_note_the_measured_differences(row: Experiment, tmp_path: Path) -> None:
    effort = Effort()
    images = write_photographs(tmp_path, effort.images)
    found = differences(images, row.recipe, row.data, views=effort.compared_views)
    for name, (mean, percentile) in (
        ("ours, fast", FAST_LEVELS),
        ("ours, nearest", MOVES_LEVELS),
        ("ours, decoded cache", CACHE_LEVELS),
    ):
        assert found[name].mean == pytest.approx(mean, abs=0.1)
        assert found[name].percentile_99 == pytest.approx(percentile, abs=2)


def test_without_moves_only_colours_differ_and_by_little(row: Experiment, tmp_path: Path) -> None:
    images = write_photographs(tmp_path, 2)
    plain = replace(row.recipe, rand_augment=None, color_jitter=0.0)
    found = differences(images, plain, row.data, views=2)
    assert found["ours, nearest"].mean == 0
    assert 0.3 < found["ours, fast"].mean < 2
    assert found["ours, decoded cache"] == found["ours, decoded cache, fast"]
