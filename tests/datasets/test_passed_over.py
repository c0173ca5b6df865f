"""Contents of a data set are its images, or are counted as passed over, in every layout."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from layouts import CLASSES, jpeg, split_of

from antioversmooth.config import DataConfig
from antioversmooth.datasets.dataset import ImageDataset, open_dataset
from antioversmooth.datasets.passed_over import (
    APPLE_DOUBLE,
    BESIDE,
    CIRCULAR,
    DANGLING,
    HIDDEN,
    METADATA,
    NO_CLASS,
    NO_ENDING,
    SPECIAL,
    SYSTEM,
    PassedOver,
)
from antioversmooth.errors import DataError

Trees = Callable[..., DataConfig]

LITTER = {
    "ash/._ash0.jpg": APPLE_DOUBLE,
    "._ash.jpg": APPLE_DOUBLE,
    "ash/.ipynb_checkpoints/ash0-checkpoint.jpg": HIDDEN,
    ".Trash-1000/ash0.jpg": HIDDEN,
    "ash/.ash0.jpg.swp": HIDDEN,
    "__MACOSX/ash/copy.jpg": SYSTEM,
    "ash/Thumbs.db": SYSTEM,
    "ash/@eaDir/ash0.jpg": SYSTEM,
    "lost+found/found.jpg": SYSTEM,
    "$RECYCLE.BIN/ash/gone.jpg": SYSTEM,
    "desktop.ini": SYSTEM,
}
"""Paths within a split, and the kind as which each of them counts."""
COUNTS = {kind: list(LITTER.values()).count(kind) for kind in (APPLE_DOUBLE, HIDDEN, SYSTEM)}


def tarred(target: Path, contents: dict[str, bytes]) -> None:
    with tarfile.open(target, "w") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def folders(root: Path) -> None:
    for split in ("train", "val"):
        for name, content in {**split_of(split), **dict.fromkeys(LITTER, jpeg(0))}.items():
            (root / split / name).parent.mkdir(parents=True, exist_ok=True)
            (root / split / name).write_bytes(content)


def tars(root: Path) -> None:
    for split in ("train", "val"):
        tarred(root / f"{split}.tar", {**dict.fromkeys(LITTER, jpeg(0)), **split_of(split)})


def shards(root: Path) -> None:
    """Litter stands between the image and the label of each of the first samples."""
    for split in ("train", "val"):
        contents, litter = {}, list(LITTER)
        for number, (name, content) in enumerate(split_of(split).items()):
            contents[f"{number:04}.jpg"] = content
            contents.update(dict.fromkeys(litter[number::6], jpeg(0)))
            contents[f"{number:04}.cls"] = b"%d" % CLASSES.index(name.partition("/")[0])
        tarred(root / f"trees-{split}-00.tar", contents)


def annotated(root: Path) -> None:
    (root / "categories.json").write_text(json.dumps([{"name": name} for name in CLASSES]))
    for split in ("train", "val"):
        names = [
            f"images/tree/{CLASSES.index(path.partition('/')[0])}/{split}-{path.replace('/', '-')}"
            for path in split_of(split)
        ]
        for name, content in zip(names, split_of(split).values(), strict=True):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        listed = [*(f"images/tree/0/{name}" for name in LITTER), *names]
        content = {
            "images": [{"file_name": name} for name in listed],
            "annotations": [{"category_id": int(name.split("/")[2])} for name in names],
        }
        (root / f"{split}2018.json").write_text(json.dumps(content))


def counts(found: ImageDataset) -> dict[str, int]:
    return {kind: one["count"] for kind, one in found.passed_over.items()}


@pytest.mark.parametrize(
    ("source", "write"),
    [
        ("image_folder", folders),
        ("tar", tars),
        ("webdataset", shards),
        ("inaturalist", annotated),
    ],
)
def test_the_litter_of_systems_is_no_image_and_no_class(
    source: str, write: Callable[[Path], None], tmp_path: Path, trees: Trees
) -> None:
    write(tmp_path)
    found = open_dataset(trees(source, tmp_path))
    assert (len(found.train.labels), len(found.val.labels), len(found.classes)) == (12, 6, 3)
    read = [found.train.read(i) for i in range(12)]  # type: ignore[union-attr]
    assert sorted(read) == sorted(split_of("train").values())
    assert counts(found) == {kind: 2 * number for kind, number in COUNTS.items()}


@pytest.mark.parametrize(
    ("change", "kind", "path"),
    [
        (lambda f: (f / "ash/ash0.jpg").rename(f / "ash/ash0.JFIF"), ".jfif", "ash/ash0.JFIF"),
        (lambda f: (f / "ash/ash0.jpg").rename(f / "ash/ash0.gif"), ".gif", "ash/ash0.gif"),
        (lambda f: (f / "ash/ash0.jpg").rename(f / "ash/ash0"), NO_ENDING, "ash/ash0"),
        (lambda f: (f / "ash/ash0.jpg").rename(f / "ash0.jpg"), NO_CLASS, "ash0.jpg"),
        (lambda f: relink(f / "ash/ash0.jpg", "nowhere.jpg"), DANGLING, "ash/ash0.jpg"),
        (lambda f: fifo(f / "ash/ash0.jpg"), SPECIAL, "ash/ash0.jpg"),
    ],
)
def test_an_image_that_is_lost_is_named_and_no_other_count_is_offered(
    change: Callable[[Path], object], kind: str, path: str, folder: Path, trees: Trees
) -> None:
    change(folder / "train")
    with pytest.raises(DataError) as raised:
        open_dataset(trees("image_folder", folder))
    message = str(raised.value)
    assert f"has 11; passed over: 1 {kind} (train/{path})" in message
    assert "data.num_train=11" not in message
    found = open_dataset(trees("image_folder", folder, num_train=11))
    assert found.passed_over == {kind: {"count": 1, "examples": [f"train/{path}"]}}


def relink(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def test_litter_beside_another_count_is_named_with_the_count(folder: Path, trees: Trees) -> None:
    (folder / "train" / "ash" / ".DS_Store").touch()
    with pytest.raises(DataError, match=r"1 hidden \(.*DS_Store\); .* set data.num_train=12 "):
        open_dataset(trees("image_folder", folder, num_train=13))


def test_a_class_whose_folder_is_gone_in_both_splits_is_named(folder: Path, trees: Trees) -> None:
    for split in ("train", "val"):
        (folder / split / "birch").rename(folder / f"{split}-birch")
        (folder / split / "birch").symlink_to(folder / "nowhere" / "birch")
    message = r"has 2; passed over: 2 link\(s\) that lead nowhere \(train/birch, val/birch\)"
    with pytest.raises(DataError, match=message):
        open_dataset(trees("image_folder", folder))


@pytest.mark.parametrize("target", [".", "..", "../..", "../ash"])
def test_a_link_to_a_folder_around_it_is_passed_over(
    target: str, folder: Path, trees: Trees
) -> None:
    (folder / "train" / "ash" / "loop").symlink_to(target)
    found = open_dataset(trees("image_folder", folder))
    assert found.passed_over == {CIRCULAR: {"count": 1, "examples": ["train/ash/loop"]}}


def test_two_folders_that_link_to_each_other_are_read_once_each(folder: Path, trees: Trees) -> None:
    (folder / "train" / "ash" / "b").symlink_to("../birch")
    (folder / "train" / "birch" / "a").symlink_to("../ash")
    found = open_dataset(trees("image_folder", folder, num_train=20))
    assert found.passed_over == {
        CIRCULAR: {"count": 2, "examples": ["train/ash/b/a", "train/birch/a/b"]}
    }


def test_a_listing_is_made_again_when_the_target_of_a_link_appears(
    folder: Path, trees: Trees, tmp_path: Path
) -> None:
    relink(folder / "train" / "ash" / "ash0.jpg", str(tmp_path / "later" / "ash0.jpg"))
    found = open_dataset(trees("image_folder", folder, num_train=11))
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "ash0.jpg").write_bytes(jpeg(0))
    again = open_dataset(trees("image_folder", folder))
    assert (len(found.train.labels), len(again.train.labels)) == (11, 12)


def test_folders_and_compressed_files_beside_tar_files_are_named(
    tmp_path: Path, trees: Trees
) -> None:
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        for label in CLASSES:
            files = split_of(split).items()
            found = {name.partition("/")[2]: c for name, c in files if name.startswith(label)}
            tarred(tmp_path / split / f"{label}.tar", found)
        (tmp_path / split / "dogwood.tar.gz").touch()
        (tmp_path / split / "elm").mkdir()
        (tmp_path / split / "._ash.tar").write_bytes(b"\0\5\26\7")
    found = open_dataset(trees("tar", tmp_path))
    assert counts(found) == {".gz": 2, BESIDE: 2, APPLE_DOUBLE: 2}


def test_metadata_of_shards_belongs_to_no_sample(tmp_path: Path, trees: Trees) -> None:
    for split in ("train", "val"):
        contents: dict[str, bytes] = {"__meta__/dataset.jpg": b"", "README": b""}
        for number, (name, content) in enumerate(split_of(split).items()):
            contents[f"{number:04}.jpg"] = content
            contents[f"{number:04}.cls"] = b"%d" % CLASSES.index(name.partition("/")[0])
        tarred(tmp_path / f"trees-{split}-00.tar", contents)
    found = open_dataset(trees("webdataset", tmp_path))
    assert counts(found) == {METADATA: 2, NO_ENDING: 2}


def test_a_note_names_the_most_frequent_kinds_first() -> None:
    passed, other = PassedOver(), PassedOver()
    for number in range(5):
        passed.add(".gif", f"{number}.gif")
    other.add(HIDDEN, ".a")
    for number in range(20):
        other.add(f".k{number}", f"1.k{number}")
    passed.add_all(other)
    assert str(passed).startswith("5 .gif (0.gif, 1.gif, 2.gif, ...), 1 hidden (.a), 1 .k0 (1.k0),")
    assert str(passed).endswith(", 14 of other kinds")


def test_a_file_as_root_is_named_as_one(folder: Path, trees: Trees) -> None:
    (folder / "images.zip").touch()
    with pytest.raises(DataError, match=r"images.zip is a file, and a folder belongs here; unpack"):
        open_dataset(trees("image_folder", folder / "images.zip"))
