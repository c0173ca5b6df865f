from __future__ import annotations

import dataclasses
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import processes
import pytest
from outcomes import losses
from PIL import Image

from antioversmooth import files, runs, spec
from antioversmooth.config import DataConfig, DataSource
from antioversmooth.datasets.dataset import open_dataset
from antioversmooth.datasets.layouts import packaged
from antioversmooth.datasets.layouts.text_table import stratified_split
from antioversmooth.errors import AttemptEnded, DataError
from antioversmooth.orchestration import preflight
from antioversmooth.runs import Run, journal
from antioversmooth.training.data.decoding import open_image
from antioversmooth.training.train import train

DIGITS = DataConfig("digits", DataSource.digits, None, 10, 1438, 359, 1, [0.5], [0.5])


def test_the_mini_profile_finds_what_its_spec_says(experiments: Path) -> None:
    config = spec.load_experiment(experiments / "deit_s12.yaml", ["profile=mini"]).data
    found = open_dataset(config)
    assert np.bincount(found.train.labels).tolist() == [400] * 10
    assert np.bincount(found.val.labels).tolist() == [100] * 10
    assert open_image(found.train, 0).shape == (1, 28, 28)


def test_the_split_is_stratified_and_fixed() -> None:
    labels = np.repeat(np.arange(3), 10)
    train, val = stratified_split(labels)
    assert sorted([*train, *val]) == list(range(30))
    assert np.bincount(labels[val]).tolist() == [2, 2, 2]
    assert np.array_equal(val, stratified_split(labels)[1])


def test_digits_use_the_whole_range_of_grey() -> None:
    images = open_dataset(DIGITS).train
    assert open_image(images, 0).shape == (1, 8, 8)
    assert max(int(open_image(images, i).max()) for i in range(20)) == 255


@pytest.mark.parametrize(
    ("key", "wrong"),
    [("num_classes", 11), ("num_train", 1437), ("num_val", 1), ("fingerprint", "abc")],
)
def test_data_that_is_not_what_the_spec_says_is_refused(key: str, wrong: object) -> None:
    with pytest.raises(DataError, match=f"data.{key}"):
        open_dataset(dataclasses.replace(DIGITS, **{key: wrong}))


def test_a_missing_package_names_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged, "find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"sklearn, which is not installed: run `make setup`"):
        open_dataset(DIGITS)


def packed(root: Path, target: Path) -> None:
    """The same files in tar files."""
    target.mkdir()
    for split in ("train", "val"):
        with tarfile.open(target / f"{split}.tar", "w") as archive:
            archive.add(root / split, split)


def test_a_run_is_the_same_from_a_folder_and_from_tar_files(
    folder_run: Callable[..., Run], tmp_path: Path
) -> None:
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
            **open_dataset(run.experiment.data).checksums(),
        }
    assert len(found[0]) == 3
    assert found[0] == found[1]


def other_images(of: Path, there: Path) -> None:
    """Images of the same names, sizes and classes under another root."""
    shutil.copytree(of, there)
    for number, path in enumerate(sorted(there.rglob("*.png"))):
        pixels = np.random.default_rng(1000 + number).integers(0, 256, (12, 10, 3), np.uint8)
        Image.fromarray(pixels).save(path)


def test_a_run_does_not_resume_with_other_images(
    folder_run: Callable[..., Run], tmp_path: Path
) -> None:
    """Said before anything is queued, and by the training itself; a copy of the images is as
    good."""
    shutil.copytree(tmp_path / "images", tmp_path / "copy")
    other_images(tmp_path / "images", tmp_path / "others")
    with pytest.raises(AttemptEnded):
        train(folder_run("runtime.max_steps=2"))
    elsewhere = folder_run(f"data.root={tmp_path}/others")
    told = (
        rf"began with the images of {tmp_path}/images\. Those of {tmp_path}/others differ by"
        r" the content"
    )
    with pytest.raises(DataError, match=told):
        preflight.check_inputs([elsewhere])
    assert processes.train(elsewhere, ranks=2) == [2, 2]
    assert runs.recorded_data(elsewhere.dir)["root"] == f"{tmp_path}/images"
    assert [r["message"] for r in journal.read(elsewhere.attempts_path) if r["event"] == "end"][
        -1
    ].startswith("data.root: deit_s12")
    copy = folder_run(f"data.root={tmp_path}/copy")
    preflight.check_inputs([copy])
    train(copy)
    assert copy.result() is not None
    assert runs.recorded_data(copy.dir)["root"] == f"{tmp_path}/copy"


def test_a_run_resumes_if_only_names_were_recorded_or_nothing_was_saved(
    folder_run: Callable[..., Run], tmp_path: Path
) -> None:
    other_images(tmp_path / "images", tmp_path / "others")
    run = folder_run("runtime.max_steps=2", "recipe.epochs=1", "recipe.warmup_epochs=0")
    with pytest.raises(AttemptEnded):
        train(run)
    path = run.dir / "provenance.json"
    others = folder_run("recipe.epochs=1", "recipe.warmup_epochs=0", f"data.root={tmp_path}/others")
    recorded = files.read_json(path)
    del recorded["data"]["sample"]
    files.write_json(path, recorded)
    preflight.check_inputs([others])
    for spoilt in ("{", "[]", '{"data": 1}'):
        path.write_text(spoilt)
        preflight.check_inputs([others])
    files.write_json(path, {"data": {**recorded["data"], "fingerprint": "another"}})
    with pytest.raises(DataError, match=r"differ by the names"):
        preflight.check_inputs([others])
    for kept in run.checkpoints_dir.iterdir():
        kept.unlink()
    preflight.check_inputs([others])
    train(others)
    assert others.result() is not None
