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
    root: Path,
    split: str,
    *,
    prefix: str = "trees",
    leave_out: str = "",
    endings: str = "jpg",
    key: Callable[[int], str] = "{:04}".format,
) -> None:
    """Writes shards of a split, with the class as key.cls and in key.json."""
    whole = samples(split)
    for number, start in enumerate(range(0, len(whole), PER_SHARD)):
        with tarfile.open(root / f"{prefix}-{split}-{number:02}.tar", "w") as archive:
            for index, (_, image, label) in enumerate(whole[start : start + PER_SHARD], start):
                parts = {
                    "cls": str(label).encode(),
                    "json": json.dumps({"fine": label}).encode(),
                    endings: image,
                }
                for ending, content in parts.items():
                    if ending != leave_out:
                        member = tarfile.TarInfo(f"./{key(index)}.{ending}")
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


def test_keys_with_dots_are_refused_with_both_images(shards: Path, trees: Trees) -> None:
    """By the library's rule they are one sample, whose second image nobody would see."""
    write(shards, "train", key=lambda number: f"img{number // 2}.{'ab'[number % 2]}")
    message = r"train-00.tar: sample img0 has 2 instead of one image: img0.a.jpg and img0.b.jpg"
    with pytest.raises(DataError, match=message):
        open_dataset(trees("webdataset", shards))


def test_a_key_ends_at_the_first_dot_of_the_file_name(shards: Path, trees: Trees) -> None:
    library = pytest.importorskip("webdataset")
    for split in ("train", "val"):
        write(shards, split, key=lambda number: f"v1.0/img{number}.a")
    assert library.tariterators.base_plus_ext("v1.0/img3.a.jpg") == ("v1.0/img3", "a.jpg")
    found = open_dataset(trees("webdataset", shards))
    assert found.train.labels.tolist() == [label for _, _, label in samples("train")]


def test_a_second_label_of_a_sample_is_refused(shards: Path, trees: Trees) -> None:
    with tarfile.open(shards / "trees-train-00.tar", "w") as archive:
        for name in ("0.jpg", "0.cls", "0.b.cls"):
            archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(DataError, match=r"has 2 instead of one .cls.*: 0.cls and 0.b.cls"):
        open_dataset(trees("webdataset", shards))


def test_a_sample_that_was_appended_again_is_refused(shards: Path, trees: Trees) -> None:
    with tarfile.open(shards / "trees-train-00.tar", "a") as archive:
        archive.addfile(tarfile.TarInfo("0001.jpg"))
        archive.addfile(tarfile.TarInfo("0001.cls"))
    message = r"trees-train-00.tar:0001.jpg occurs more than once in its shard"
    with pytest.raises(DataError, match=message):
        open_dataset(trees("webdataset", shards))


def test_a_torn_shard_is_refused(shards: Path, trees: Trees) -> None:
    path = shards / "trees-train-01.tar"
    whole = path.read_bytes()
    with tarfile.open(path) as archive:
        ends = [member.offset for member in archive][3::3]
    for cut in ends:
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"trees-train-01.tar: it is cut off"):
            open_dataset(trees("webdataset", shards))


def test_a_shard_that_is_added_later_is_seen(shards: Path, trees: Trees) -> None:
    open_dataset(trees("webdataset", shards))
    write(shards, "train", prefix="other")
    assert len(open_dataset(trees("webdataset", shards, num_train=24)).train.labels) == 24


@pytest.mark.parametrize("label", ["1.5", "Infinity", "[1]", "null", '"ash"'])
def test_a_label_that_is_no_number_of_a_class_is_refused(
    label: str, shards: Path, trees: Trees
) -> None:
    with tarfile.open(shards / "trees-train-00.tar", "w") as archive:
        for name, content in (("0.jpg", b""), ("0.json", f'{{"fine": {label}}}'.encode())):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with pytest.raises(DataError, match=r"0.json has no label \(fine\)"):
        open_dataset(trees("webdataset", shards, label="fine"))


def test_validation_shards_that_lack_a_class_between_others_are_refused(
    shards: Path, trees: Trees
) -> None:
    for path in shards.glob("*val*.tar"):
        with tarfile.open(path) as archive:
            parts = {m.name: archive.extractfile(m).read() for m in archive}  # type: ignore[union-attr]
        with tarfile.open(path, "w") as archive:
            for name, content in parts.items():
                changed = b"0" if name.endswith(".cls") and content == b"1" else content
                member = tarfile.TarInfo(name)
                member.size = len(changed)
                archive.addfile(member, io.BytesIO(changed))
    with pytest.raises(DataError, match=r"no validation image of 1 class\(es\): 1"):
        open_dataset(trees("webdataset", shards))
