"""Input pipelines read photographs, and every augmentation is counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from antioversmooth import spec
from antioversmooth.config import Experiment
from antioversmooth.training.data.decoding import open_image
from benchmarks.pipeline import OURS, TIMM, compare_pipelines, made_views, write_photographs
from benchmarks.timing import cpu_clock


@pytest.fixture
def row(experiments: Path) -> Experiment:
    return spec.load_experiment(experiments / "deit_s12.yaml", [])


def test_photographs_are_of_imagenets_size_and_differ(tmp_path: Path):
    images = write_photographs(tmp_path, 3)
    opened = [open_image(images, index) for index in range(3)]
    assert all(image.shape == (3, 375, 500) for image in opened)
    assert not torch.equal(opened[0], opened[2])


def test_every_pipeline_is_timed(row: Experiment, tmp_path: Path):
    images = write_photographs(tmp_path, 2)
    times = compare_pipelines(images, row.recipe, row.data, cpu_clock, rounds=1)
    assert set(times) == {"torchvision", TIMM, *OURS}


def test_augmentations_come_out_whole_and_black_ones_are_counted(row: Experiment, tmp_path: Path):
    images = write_photographs(tmp_path, 2)
    found = made_views(images, row.recipe, row.data, number=20)
    assert (found["augmentations"], found["whole"]) == (20, 20)
    # posterize that does not increase: 0 bits at once
    darkened = replace(row.recipe, rand_augment="rand-m0-n9-p1.0")
    assert 0 < made_views(images, darkened, row.data, number=20)["black"] < 20
