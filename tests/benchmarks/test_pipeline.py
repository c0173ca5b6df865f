"""Input pipelines read photographs, and every augmentation is counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import auto_augment

from antioversmooth import spec
from antioversmooth.config import Experiment
from antioversmooth.datasets.images import Images
from antioversmooth.training.data.augmentation import Transform
from antioversmooth.training.data.decoding import open_image
from antioversmooth.training.data.loading import ViewDataset
from benchmarks import pipeline
from benchmarks.pipeline import (
    OURS,
    TIMM,
    compare_pipelines,
    made_views,
    posterized,
    write_photographs,
)
from benchmarks.timing import cpu_clock


@pytest.fixture
def row(experiments: Path) -> Experiment:
    return spec.load_experiment(experiments / "deit_s12.yaml", [])


def test_photographs_are_of_imagenets_size_and_differ(tmp_path: Path):
    images = write_photographs(tmp_path, 3)
    opened = [open_image(images, index) for index in range(3)]
    assert all(image.shape == (3, 375, 500) for image in opened)
    assert not torch.equal(opened[0], opened[2])


def test_every_pipeline_is_timed_with_other_views_each_round(
    row: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seeds: list[int] = []

    def views(images: Images, transform: Transform, *, seed: int) -> ViewDataset:
        seeds.append(seed)
        return ViewDataset(images, transform, seed)

    monkeypatch.setattr(pipeline, "ViewDataset", views)
    images = write_photographs(tmp_path, 2)
    times = compare_pipelines(images, row.recipe, row.data, cpu_clock, rounds=1)
    assert set(times) == {"torchvision", TIMM, *OURS}
    assert sorted(seeds) == [0] * len(OURS) + [1] * len(OURS)


def test_timms_posterize_is_its_own_and_black_where_pillow_refuses():
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    image = Image.fromarray(noise)
    assert posterized(image, 3, fillcolor=(0, 0, 0)) == auto_augment.posterize(image, 3)
    assert posterized(image, 0).getbbox() is None


def test_augmentations_come_out_whole_and_black_ones_are_counted(row: Experiment, tmp_path: Path):
    images = write_photographs(tmp_path, 2)
    found = made_views(images, row.recipe, row.data, number=20)
    assert (found["augmentations"], found["whole"]) == (20, 20)
    # posterize that does not increase: 0 bits at once
    darkened = replace(row.recipe, rand_augment="rand-m0-n9-p1.0")
    assert 0 < made_views(images, darkened, row.data, number=20)["black"] < 20
