"""Sizes from a config, beside those that papers state and an independent count."""

from __future__ import annotations

from pathlib import Path

import pytest

from antioversmooth import spec
from antioversmooth.runs.arithmetic import multiply_adds, num_parameters

# Multiply-adds for one image in units of 1e9, as the papers of the models state them.
PUBLISHED = {"deit_s12": 4.6, "deit_b12": 17.5, "cait_s24": 9.4, "cait_xxs24": 2.5, "swin_s": 8.7}

# Parameters of the full-size models in millions, from the paper's facts: an independent count.
MILLIONS = {
    "deit_s12": 22.05,
    "deit_s24": 43.34,
    "deit_b12": 86.57,
    "cait_s24": 46.92,
    "swin_s": 49.61,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_multiply_adds_are_within_five_percent_of_the_published_ones(
    name: str, experiments: Path
) -> None:
    model = spec.load_experiment(experiments / f"{name}.yaml").model
    assert multiply_adds(model) == pytest.approx(PUBLISHED[name] * 1e9, rel=0.05)


@pytest.mark.parametrize("name", MILLIONS)
def test_parameters_are_within_a_percent_of_the_count(name: str, experiments: Path) -> None:
    config = spec.load_experiment(experiments / f"{name}.yaml")
    assert num_parameters(config) == pytest.approx(MILLIONS[name] * 1e6, rel=0.01)
