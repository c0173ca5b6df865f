"""The layout of other images that a run is evaluated on, by the names of their files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from antioversmooth.config import DataConfig
from antioversmooth.datasets.validation import OWN_LAYOUTS, validation_config
from antioversmooth.errors import DataError

Trees = Callable[..., DataConfig]
OWN = sorted(source.value for source in OWN_LAYOUTS)
SHAPES = {
    "classes": (["ash/1.jpg", "train/deep/2.jpg", "readme.txt"], "image_folder", "."),
    "a class like a split": (["train/1.jpg", "notes.txt"], "image_folder", "."),
    "val": (["train/ash/1.jpg", "val/ash/1.jpg"], "image_folder", "val"),
    "tar": (["val.tar"], "tar", "val"),
    "tars": (["val/ash.tar"], "tar", "val"),
}
OWN_SHAPES = {
    "huggingface": [
        ["dataset_dict.json", "validation/data.arrow", "validation/state.json"],
        ["data/validation-00000-of-00001.parquet"],
        ["train/ash/1.jpg", "validation/ash/2.jpg"],
    ],
    "webdataset": [["trees-val-00.tar"], ["val/00.tar"], ["val.tar"]],
    "inaturalist": [["val2018.json", "train_val2018/Aves/1/x.jpg"]],
    "idx": [["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]],
    "cifar100": [["cifar-100-python/test"]],
}


def laid_out(root: Path, paths: list[str]) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


@pytest.mark.parametrize("source", ["image_folder", "tar", *OWN])
@pytest.mark.parametrize("shape", SHAPES)
def test_runs_on_any_layout_are_evaluated_on_folders_and_tar_files(
    source: str, shape: str, tmp_path: Path, trees: Trees
) -> None:
    paths, layout, val = SHAPES[shape]
    if source == "webdataset" and layout == "tar":
        pytest.skip("tar files of samples")
    given = validation_config(trees(source, Path("/elsewhere")), laid_out(tmp_path, paths))
    assert (given.source.value, given.root, given.val) == (layout, str(tmp_path), val)


@pytest.mark.parametrize(
    ("source", "paths"), [(source, paths) for source, all in OWN_SHAPES.items() for paths in all]
)
def test_the_layout_of_the_run_is_read_as_it_was(
    source: str, paths: list[str], tmp_path: Path, trees: Trees
) -> None:
    given = validation_config(trees(source, Path("/elsewhere")), laid_out(tmp_path, paths))
    assert (given.source.value, given.root, given.val) == (source, str(tmp_path), None)


@pytest.mark.parametrize("paths", OWN_SHAPES["huggingface"] + OWN_SHAPES["idx"])
def test_layouts_of_other_data_are_refused_with_those_that_are_read(
    paths: list[str], tmp_path: Path, trees: Trees
) -> None:
    with pytest.raises(DataError, match=r"no folder val and no class folders .*DIR/<class>/\*"):
        validation_config(trees("image_folder", Path("/elsewhere")), laid_out(tmp_path, paths))
