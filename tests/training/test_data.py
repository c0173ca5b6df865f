from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from antioversmooth import spec
from antioversmooth.config import DataConfig, DataSource
from antioversmooth.errors import DataError
from antioversmooth.training import data
from antioversmooth.training.data import open_data, stratified_split

DIGITS = DataConfig("digits", DataSource.digits, None, 10, 1438, 359, 1, [0.5], [0.5])


def test_the_mini_profile_finds_what_its_spec_says(experiments: Path) -> None:
    config = spec.load_experiment(experiments / "deit_s12.yaml", ["profile=mini"]).data
    found = open_data(config)
    assert np.bincount(found.train.labels).tolist() == [400] * 10
    assert np.bincount(found.val.labels).tolist() == [100] * 10
    assert found.train.open(0).shape == (1, 28, 28)


def test_a_split_keeps_the_classes_apart_and_is_always_the_same() -> None:
    labels = np.repeat(np.arange(3), 10)
    train, val = stratified_split(labels)
    assert sorted([*train, *val]) == list(range(30))
    assert np.bincount(labels[val]).tolist() == [2, 2, 2]
    assert np.array_equal(val, stratified_split(labels)[1])


def test_digits_use_the_whole_range_of_grey() -> None:
    images = open_data(DIGITS).train
    assert images.open(0).shape == (1, 8, 8)
    assert max(int(images.open(i).max()) for i in range(20)) == 255


@pytest.mark.parametrize(
    ("key", "wrong"), [("num_classes", 11), ("num_train", 1437), ("num_val", 1), ("fingerprint", "abc")]
)
def test_data_that_is_not_what_the_spec_says_is_refused(key: str, wrong: object) -> None:
    with pytest.raises(DataError, match=f"data.{key}"):
        open_data(dataclasses.replace(DIGITS, **{key: wrong}))


def test_a_missing_package_names_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"pip install"):
        open_data(DIGITS)


def folder_config(root: Path | None) -> DataConfig:
    return DataConfig("trees", DataSource.image_folder, str(root) if root else None, 2, 4, 2)


def make_images(root: Path, classes: tuple[str, ...] = ("ash", "birch")) -> None:
    for split, count in (("train", 2), ("val", 1)):
        for label in classes:
            (root / split / label).mkdir(parents=True)
            for number in range(count):
                Image.new("L", (5, 4), 9).save(root / split / label / f"{number}.png")


def test_a_folder_gives_colour_images_and_classes_by_name(tmp_path: Path) -> None:
    make_images(tmp_path)
    found = open_data(folder_config(tmp_path))
    assert found.train.labels.tolist() == [0, 0, 1, 1]
    assert torch.equal(found.train.open(0), torch.full((3, 4, 5), 9, dtype=torch.uint8))
    assert found.train.name(3) == str(tmp_path / "train" / "birch" / "1.png")


def test_a_fingerprint_follows_the_files(tmp_path: Path) -> None:
    make_images(tmp_path)
    before = open_data(folder_config(tmp_path)).fingerprint
    (tmp_path / "val" / "ash" / "0.png").rename(tmp_path / "val" / "ash" / "7.png")
    assert open_data(folder_config(tmp_path)).fingerprint != before


@pytest.mark.parametrize("root", [None, Path("/nowhere/at/all")])
def test_a_missing_folder_tells_what_to_set(root: Path | None) -> None:
    with pytest.raises(DataError, match=r"IMAGENET=.*data\.root=.*profile=mini"):
        open_data(folder_config(root))


def test_splits_with_different_classes_are_refused(tmp_path: Path) -> None:
    make_images(tmp_path)
    (tmp_path / "val" / "birch").rename(tmp_path / "val" / "beech")
    with pytest.raises(DataError, match="different classes: beech, birch"):
        open_data(folder_config(tmp_path))


def test_an_empty_class_is_refused(tmp_path: Path) -> None:
    make_images(tmp_path)
    (tmp_path / "train" / "ash" / "0.png").unlink()
    (tmp_path / "train" / "ash" / "1.png").unlink()
    with pytest.raises(DataError, match="ash"):
        open_data(folder_config(tmp_path))
