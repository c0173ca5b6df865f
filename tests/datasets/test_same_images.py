"""Training images that are the validation images too, of every source that names its splits."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from layouts import CLASSES, split_of
from test_idx import idx
from test_inaturalist import write as write_inaturalist
from test_webdataset import write as write_shards

from antioversmooth.config import DataConfig
from antioversmooth.datasets.dataset import open_unchecked
from antioversmooth.errors import DataError

Trees = Callable[..., DataConfig]
MESSAGE = "training and validation images are the same"


def test_one_folder_for_both_splits_is_refused_also_by_a_link(folder: Path, trees: Trees) -> None:
    with pytest.raises(DataError, match=f"{MESSAGE} .*train/ash/ash0.jpg"):
        open_unchecked(trees("image_folder", folder, val="train"))
    (folder / "linked").symlink_to("train")
    with pytest.raises(DataError, match=MESSAGE):
        open_unchecked(trees("image_folder", folder, val="linked"))


def test_one_tar_file_for_both_splits_is_refused(tmp_path: Path, trees: Trees) -> None:

    for name, content in split_of("train").items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        for name in CLASSES:
            archive.add(tmp_path / name, name)
    (tmp_path / "val.tar").symlink_to("all.tar")
    for val in ("all", "val"):
        with pytest.raises(DataError, match=f"{MESSAGE} .*all.tar"):
            open_unchecked(trees("tar", tmp_path, train="all.tar", val=val))


def test_a_shard_in_both_splits_is_refused_by_name(tmp_path: Path, trees: Trees) -> None:
    for split in ("train", "val"):
        write_shards(tmp_path, split)
    with pytest.raises(DataError, match=f"{MESSAGE} .*trees-val-00.tar"):
        open_unchecked(trees("webdataset", tmp_path, train="*.tar"))


def test_an_annotated_image_in_both_splits_is_refused_by_name(tmp_path: Path, trees: Trees) -> None:
    write_inaturalist(tmp_path)
    annotations = tmp_path / "val2018.json"
    content = json.loads(annotations.read_text())
    theirs = json.loads((tmp_path / "train2018.json").read_text())["images"][0]
    content["images"].append(theirs)
    annotations.write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"{MESSAGE} .*{re.escape(theirs['file_name'])}"):
        open_unchecked(trees("inaturalist", tmp_path))


@pytest.mark.parametrize("num_val", [6, 12])
def test_one_idx_file_for_both_splits_is_refused_also_in_parts(
    num_val: int, tmp_path: Path, trees: Trees
) -> None:
    labels = np.arange(12, dtype=np.uint8) % 3
    (tmp_path / "all-images-idx3-ubyte").write_bytes(idx(np.zeros((12, 5, 5), np.uint8)))
    (tmp_path / "all-labels-idx1-ubyte").write_bytes(idx(labels))
    same = trees("idx", tmp_path, train="all", val="all", num_val=num_val)
    with pytest.raises(DataError, match=f"{MESSAGE} .*all-images-idx3-ubyte"):
        open_unchecked(same)


@pytest.mark.parametrize("layout", ["both splits", "parquet", "one table"])
def test_one_hugging_face_split_for_both_is_refused(
    layout: str, tmp_path: Path, trees: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))
    files = split_of("train")
    columns = {
        "image": [{"bytes": content, "path": None} for content in files.values()],
        "label": [CLASSES.index(name.partition("/")[0]) for name in files],
    }
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))}
    )
    table = datasets.Dataset.from_dict(columns, features=features)
    root = tmp_path / "trees"
    if layout == "parquet":
        root.mkdir()
        table.to_parquet(str(root / "train-00000-of-00001.parquet"))
    else:
        whole = datasets.DatasetDict({"train": table}) if layout == "both splits" else table
        whole.save_to_disk(str(root))
    with pytest.raises(DataError, match=f"{MESSAGE} .*trees:val"):
        open_unchecked(trees("huggingface", root, train="train", val="train"))
