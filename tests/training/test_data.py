from __future__ import annotations

import dataclasses
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import processes
import pytest
from outcomes import losses

from antioversmooth import files, spec
from antioversmooth.config import DataConfig, DataSource
from antioversmooth.errors import DataError
from antioversmooth.runs import Run
from antioversmooth.sources import packaged
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
    monkeypatch.setattr(packaged, "find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"sklearn, which is not installed: pip install"):
        open_data(DIGITS)


def packed(root: Path, target: Path) -> None:
    """The same files in tar files."""
    target.mkdir()
    for split in ("train", "val"):
        with tarfile.open(target / f"{split}.tar", "w") as archive:
            archive.add(root / split, split)


def test_a_run_is_the_same_from_a_folder_and_from_tar_files(folder_run: Callable[..., Run], tmp_path: Path) -> None:
    """To the bit, with loading processes; and its provenance says which data it was."""
    packed(tmp_path / "images", tmp_path / "tars")
    few = ("recipe.epochs=1", "recipe.warmup_epochs=0", "runtime.workers=1")
    runs = [folder_run(*few), folder_run(*few, "data.source=tar", f"data.root={tmp_path}/tars")]
    found = []
    for run in runs:
        assert processes.train(run) == [0]
        found.append(losses(run))
        told = files.read_json(run.dir / "provenance.json")["data"]
        assert told == {
            "name": "trees",
            "root": run.experiment.data.root,
            "fingerprint": open_data(run.experiment.data).fingerprint,
        }
    assert len(found[0]) == 3
    assert found[0] == found[1]
