from __future__ import annotations

import gc
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from layouts import CLASSES, split_of

from antioversmooth.config import DataConfig
from antioversmooth.datasets.dataset import open_dataset
from antioversmooth.errors import DataError

Trees = Callable[..., DataConfig]
PER_SHARD = 5


def samples(split: str) -> list[tuple[str, bytes, int]]:
    """Key, image and class of each sample; classes mixed."""
    files = sorted(split_of(split).items(), key=lambda item: item[0][::-1])
    return [
        (f"{i:04}", content, CLASSES.index(name.partition("/")[0]))
        for i, (name, content) in enumerate(files)
    ]


def write(
    root: Path, split: str, *, prefix: str = "trees", leave_out: str = "", endings: str = "jpg"
) -> None:
    """Writes shards of a split, with the class as key.cls and in key.json."""
    whole = samples(split)
    for number, start in enumerate(range(0, len(whole), PER_SHARD)):
        with tarfile.open(root / f"{prefix}-{split}-{number:02}.tar", "w") as archive:
            for key, image, label in whole[start : start + PER_SHARD]:
                parts = {
                    "cls": str(label).encode(),
                    "json": json.dumps({"fine": label}).encode(),
                    endings: image,
                }
                for ending, content in parts.items():
                    if ending != leave_out:
                        member = tarfile.TarInfo(f"./{key}.{ending}")
                        member.size = len(content)
                        archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        write(tmp_path, split)
    return tmp_path


@pytest.mark.parametrize("label", [None, "fine"])
def test_samples_come_in_the_order_of_the_shards(
    shards: Path, trees: Trees, label: str | None
) -> None:
    found = open_dataset(trees("webdataset", shards, label=label))
    for split, images in (("train", found.train), ("val", found.val)):
        assert [images.read(i) for i in range(len(images.labels))] == [
            image for _, image, _ in samples(split)
        ]
        assert images.labels.tolist() == [label for _, _, label in samples(split)]
    assert found.train.name(7) == f"{shards}/trees-train-01.tar:0007.jpg"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_samples_are_those_of_the_webdataset_library(shards: Path, trees: Trees) -> None:
    library = pytest.importorskip("webdataset")
    urls = [str(path) for path in sorted(shards.glob("*train*.tar"))]
    theirs = [
        (s["jpg"], int(s["cls"]))
        for s in library.WebDataset(urls, shardshuffle=False, empty_check=False)
    ]
    # the library leaves its shards open
    gc.collect()
    images = open_dataset(trees("webdataset", shards)).train
    assert [(images.read(i), int(label)) for i, label in enumerate(images.labels)] == theirs


def test_shards_can_be_counted(shards: Path, trees: Trees) -> None:
    write(shards, "train", prefix="other")
    config = trees("webdataset", shards, train="trees-train-{00..02}.tar")
    assert len(open_dataset(config).train.labels) == 12
    with pytest.raises(DataError, match=r"there is no file .*trees-train-03.tar"):
        open_dataset(trees("webdataset", shards, train="trees-train-{00..03}.tar"))
    with pytest.raises(DataError, match=r"data.num_train: the spec says 12, .* has 24"):
        open_dataset(trees("webdataset", shards))


@pytest.mark.parametrize(
    ("leave_out", "label", "message"),
    [
        (
            "cls",
            None,
            r"trees-train-00.tar: sample 0000 has no .cls, which data.label=cls requires",
        ),
        ("json", "fine", r"sample 0000 has no .json, which data.label=fine requires"),
        ("", "coarse", r"trees-train-00.tar:0000.json has no label \(coarse\)"),
        ("jpg", None, r"trees-train-00.tar: sample 0000 has no image"),
    ],
)
def test_samples_without_image_or_label_are_named(
    leave_out: str, label: str | None, message: str, shards: Path, trees: Trees
) -> None:
    write(shards, "train", leave_out=leave_out)
    with pytest.raises(DataError, match=message):
        open_dataset(trees("webdataset", shards, label=label))


def test_classes_that_count_from_one_are_noticed(
    shards: Path, trees: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("test_webdataset.CLASSES", ("", *CLASSES))
    for split in ("train", "val"):
        write(shards, split)
    with pytest.raises(DataError, match=r"no training image of 1 class\(es\): 0"):
        open_dataset(trees("webdataset", shards, num_classes=4))
