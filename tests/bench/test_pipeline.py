"""The input pipelines are fed with photographs, and every augmentation is counted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from antioversmooth import spec
from antioversmooth.bench.pipeline import OURS, TIMM, compare_pipelines, whole_views, write_photographs
from antioversmooth.bench.timing import cpu_clock
from antioversmooth.config import Experiment


@pytest.fixture
def row(experiments: Path) -> Experiment:
    return spec.load_experiment(experiments / "deit_s12.yaml", [])


def test_photographs_are_of_imagenets_size_and_differ(tmp_path: Path):
    images = write_photographs(tmp_path, 3)
    opened = [images.open(index) for index in range(3)]
    assert all(image.shape == (3, 375, 500) for image in opened)
    assert not torch.equal(opened[0], opened[2])


def test_every_pipeline_is_timed(row: Experiment, tmp_path: Path):
    images = write_photographs(tmp_path, 2)
    times = compare_pipelines(images, row.recipe, row.data, cpu_clock, rounds=1)
    assert set(times) == {"torchvision", TIMM, *OURS}


def test_augmentations_come_out_whole(row: Experiment, tmp_path: Path):
    assert whole_views(write_photographs(tmp_path, 2), row.recipe, row.data, number=20) == 20
