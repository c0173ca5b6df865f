"""Data sets that no spec describes: their layout, and the messages where they are none."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from pathlib import Path

import pytest
from layouts import jpeg, split_of

from antioversmooth.config import DataSource
from antioversmooth.datasets.holdout import hold_out
from antioversmooth.datasets.recognition import open_recognised, recognise
from antioversmooth.errors import DataError


def write(root: Path, split: str, where: str) -> Path:
    for name, content in split_of(split).items():
        path = root / where / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def pack(root: Path, split: str, name: str) -> None:
    write(root / ".packed", split, split)
    with tarfile.open(root / name, "w") as file:
        file.add(root / ".packed" / split, ".")
    shutil.rmtree(root / ".packed")


def shard(root: Path, split: str, name: str) -> None:
    folder = root / ".packed"
    folder.mkdir(parents=True)
    with tarfile.open(root / name, "w") as file:
        for number, (path, content) in enumerate(split_of(split).items()):
            label = ("ash", "birch", "cedar").index(path.split("/")[0])
            for ending, bytes_ in (("jpg", content), ("cls", str(label).encode())):
                part = folder / f"{number:04}.{ending}"
                part.write_bytes(bytes_)
                file.add(part, part.name)
    shutil.rmtree(folder)


@pytest.mark.parametrize("names", [("train", "val"), ("Training", "test"), ("train", "Valid")])
def test_a_folder_of_class_folders_is_an_image_folder(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    for split, where in zip(("train", "val"), names, strict=True):
        write(tmp_path, split, where)
    config, dataset, warnings = open_recognised(recognise(tmp_path))
    assert (config.source, config.num_classes) == (DataSource.image_folder, 3)
    assert (config.num_train, config.num_val) == (12, 6)
    assert (list(dataset.classes), warnings) == (["ash", "birch", "cedar"], [])


@pytest.mark.parametrize("by_file", [False, True])
def test_tar_files_are_recognised_by_their_folder_and_by_one_of_them(
    tmp_path: Path, by_file: bool
) -> None:
    pack(tmp_path, "train", "train.tar")
    pack(tmp_path, "val", "test.tar")
    config, _, _ = open_recognised(recognise(tmp_path / "train.tar" if by_file else tmp_path))
    assert (config.source, config.root) == (DataSource.tar, str(tmp_path))
    assert (config.train, config.val, config.num_train, config.num_val) == (None, "test", 12, 6)


@pytest.mark.parametrize("folders", [False, True])
def test_shards_are_recognised_by_their_members(tmp_path: Path, folders: bool) -> None:
    for split in ("train", "val"):
        name = f"{split}/000.tar" if folders else f"trees-{split}-000.tar"
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shard(tmp_path, split, name)
    config, dataset, _ = open_recognised(recognise(tmp_path))
    assert (config.source, config.num_train, config.num_val) == (DataSource.webdataset, 12, 6)
    assert list(dataset.classes) == ["0", "1", "2"]


def test_a_hugging_face_data_set_on_disk_is_recognised(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "state.json").write_text("{}")
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    config = recognise(tmp_path, label="labels")
    assert (config.source, config.train, config.val) == (DataSource.huggingface, None, "test")
    assert config.label == "labels"
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["train"]}))
    with pytest.raises(DataError, match="without validation images"):
        recognise(tmp_path)


def test_parquet_files_are_of_the_splits_that_they_are_named_by(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("train-00000-of-00001", "valid-00000-of-00001"):
        (tmp_path / "data" / f"{name}.parquet").touch()
    config = recognise(tmp_path)
    assert (config.source, config.train, config.val) == (DataSource.huggingface, None, None)


def test_classes_of_one_split_alone_are_left_out_with_a_warning(tmp_path: Path) -> None:
    write(write(tmp_path, "train", "train"), "val", "val")
    (tmp_path / "val" / "birch").rename(tmp_path / "val" / "beech")
    config, dataset, (warning,) = open_recognised(recognise(tmp_path))
    assert (config.classes, list(dataset.classes)) == (["ash", "cedar"], ["ash", "cedar"])
    assert config.num_classes == 2
    assert warning.startswith("beech, birch: not in both splits")


@pytest.mark.parametrize("splits", [["train"], ["val"], ["train", "val"]])
def test_a_class_folder_without_images_is_left_out_with_a_warning(
    tmp_path: Path, splits: list[str]
) -> None:
    write(write(tmp_path, "train", "train"), "val", "val")
    for split in splits:
        (tmp_path / split / "zed").mkdir()
    config, dataset, (warning,) = open_recognised(recognise(tmp_path))
    assert config.classes == list(dataset.classes) == ["ash", "birch", "cedar"]
    assert warning.startswith("zed: not in both splits")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "is no data set: it has no folder and no images in class folders"),
        (["a.jpg"], "its images are in no class folders"),
        (["notes/a.txt"], "it has notes and no images in class folders"),
        (["cifar-100-python/train"], "data=cifar100"),
        (["train-images-idx3-ubyte.gz"], "data=fashion_mnist"),
        (["ash/a.jpg", "birch/b.jpg"], "no validation images.*--split NEWDIR"),
        (["train/ash/a.jpg", "train/birch/b.jpg"], "no validation images.*--split NEWDIR"),
        (["val/ash/a.jpg"], "no folder of training images"),
        (["set/train/ash/a.jpg", "set/val/ash/b.jpg"], "in a folder of it: name .*set"),
        (["a/b/train/ash/a.jpg", "a/b/val/ash/b.jpg"], "in a folder of it: name .*a/b"),
        (["train/a.jpg", "wren/b.jpg"], "train has the name of the folder of all training images"),
        (["train/ash/a.jpg", "val/ash/b.jpg"], "single class ash"),
        (["train/ash/a.jpg", "val/birch/b.jpg"], "different classes"),
    ],
)
def test_a_folder_that_is_no_data_set_says_why(
    tmp_path: Path, files: list[str], message: str
) -> None:
    for number, name in enumerate(files):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(jpeg(number))
    with pytest.raises(DataError, match=message):
        open_recognised(recognise(tmp_path))


def test_files_that_are_no_data_set_say_what_would_be(tmp_path: Path) -> None:
    (tmp_path / "set.zip").touch()
    with pytest.raises(DataError, match="unpack other archives"):
        recognise(tmp_path / "set.zip")
    pack(tmp_path, "train", "trees.tar")
    with pytest.raises(DataError, match="one tar file, and none of validation images"):
        recognise(tmp_path / "trees.tar")
    with pytest.raises(DataError, match="neither such a folder"):
        recognise(tmp_path / "nothing")


@pytest.mark.parametrize("where", [".", "train"])
def test_a_fifth_of_each_class_is_held_out_as_links(tmp_path: Path, where: str) -> None:
    write(tmp_path / "trees", "train", where)
    hold_out(tmp_path / "trees", tmp_path / "new")
    config, dataset, _ = open_recognised(recognise(tmp_path / "new"))
    assert (config.num_train, config.num_val, config.num_classes) == (9, 3, 3)
    sides = [
        {images.read(i) for i in range(n)} for images, n in ((dataset.train, 9), (dataset.val, 3))
    ]
    assert sides[0] | sides[1] == set(split_of("train").values())
    assert not sides[0] & sides[1]
    with pytest.raises(DataError, match="it is there already"):
        hold_out(tmp_path / "trees", tmp_path / "new")
    with pytest.raises(DataError, match=r"has validation images already, .*new/val"):
        hold_out(tmp_path / "new", tmp_path / "other")


def test_equal_images_are_held_out_together(tmp_path: Path) -> None:
    for label, name in enumerate(("ash", "birch")):
        (tmp_path / "trees" / name).mkdir(parents=True)
        for number in range(10):
            content = jpeg(number // 2 + 10 * label)
            (tmp_path / "trees" / name / f"{number}.jpg").write_bytes(content)
    hold_out(tmp_path / "trees", tmp_path / "new")
    _, dataset, _ = open_recognised(recognise(tmp_path / "new"))
    assert len(dataset.val.labels) == 4


def test_an_image_of_two_classes_is_on_one_side(tmp_path: Path) -> None:
    trees = write(tmp_path / "trees", "train", ".")
    for number in range(8):
        for name in ("ash", "birch"):
            (trees / name / f"both{number}.jpg").write_bytes(jpeg(900 + number))
    hold_out(trees, tmp_path / "new")
    _, dataset, _ = open_recognised(recognise(tmp_path / "new"))
    train = {dataset.train.read(i) for i in range(len(dataset.train.labels))}
    assert not train & {dataset.val.read(i) for i in range(len(dataset.val.labels))}


def test_a_folder_of_links_is_there_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees = write(tmp_path / "trees", "train", ".")
    link, seen = Path.symlink_to, []

    def fail_late(path: Path, target: str) -> None:
        seen.append(path)
        if len(seen) > 5:
            raise KeyboardInterrupt
        link(path, target)

    monkeypatch.setattr(Path, "symlink_to", fail_late)
    with pytest.raises(KeyboardInterrupt):
        hold_out(trees, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["trees"]


@pytest.mark.parametrize("new", ["trees/sub", "trees/ash/new", "trees/../trees/sub"])
def test_a_folder_of_links_is_not_written_into_its_source(tmp_path: Path, new: str) -> None:
    trees = write(tmp_path / "trees", "train", ".")
    with pytest.raises(DataError, match="would change it; name another folder"):
        hold_out(trees, tmp_path / new)
    assert len(list(trees.iterdir())) == 3


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["train", "wren"], "train has the name of the folder of all training images.*rename it"),
        (["test", "wren"], "test has the name of a folder of validation images; rename it"),
        (["wren"], "single class folder wren: name the folder that holds"),
        (["data/birds/train/wren", "data/birds/val/wren"], "name .*/data/birds$"),
        ([], "has no class folders with images"),
    ],
)
def test_a_folder_that_cannot_be_divided_says_why(
    tmp_path: Path, folders: list[str], message: str
) -> None:
    trees = tmp_path / "trees"
    trees.mkdir()
    for number, name in enumerate(folders):
        (trees / name).mkdir(parents=True)
        (trees / name / "1.jpg").write_bytes(jpeg(number))
    with pytest.raises(DataError, match=message):
        hold_out(trees, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["trees"]


@pytest.mark.parametrize("kind", ["folders", "tar", "shards"])
def test_a_split_that_is_not_used_is_named(tmp_path: Path, kind: str) -> None:
    for split, name in (("train", "train"), ("val", "val"), ("val", "test")):
        make = {"folders": write, "tar": pack, "shards": shard}[kind]
        make(tmp_path, split, name if kind == "folders" else f"{name}.tar")
    _, _, (warning,) = open_recognised(recognise(tmp_path))
    assert re.match(r"test(\.tar)?: not used, beside \S+ for training and \S*val", warning)


def test_classes_that_cannot_be_divided_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    trees = write(tmp_path / "trees", "val", ".")
    (trees / "birch" / "birch0.jpg").unlink()
    for path in (trees / "cedar").iterdir():
        path.write_bytes(jpeg(1))
    message = "class birch has a single image, class cedar has 2 images, all the same; each side"
    with pytest.raises(DataError, match=message):
        hold_out(trees, tmp_path / "new")
    assert not (tmp_path / "new").exists()
