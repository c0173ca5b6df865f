from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from torchvision.datasets import ImageFolder

from antioversmooth.config import DataConfig
from antioversmooth.datasets.dataset import open_dataset
from antioversmooth.errors import DataError

Trees = Callable[..., DataConfig]


def test_classes_and_images_are_torchvisions_in_its_order(folder: Path, trees: Trees) -> None:
    """Also in folders within a class, in the order of whole paths, and with upper-case endings."""
    for name in ("ash/b/2.PNG", "ash/b-c/1.JPEG", "ash/b/d/3.tif", "ash/notes.txt", "birch/Z.webp"):
        path = folder / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / "train" / "loose.jpg").touch()
    found = open_dataset(trees("image_folder", folder, num_train=16))
    reference = ImageFolder(str(folder / "train"))
    assert found.classes == reference.classes
    assert [
        (found.train.name(i), int(label)) for i, label in enumerate(found.train.labels)
    ] == reference.samples
    assert found.train.read(0) == Path(reference.samples[0][0]).read_bytes()


def test_the_fingerprint_is_that_of_all_names(folder: Path, trees: Trees) -> None:
    names = [
        b"\n".join(
            sorted(str(p.relative_to(folder / s)).encode() for p in (folder / s).rglob("*.jpg"))
        )
        for s in ("train", "val")
    ]
    config = trees("image_folder", folder)
    assert open_dataset(config).fingerprint == hashlib.sha256(b"".join(names)).hexdigest()
    (folder / "val" / "ash" / "ash0.jpg").rename(folder / "val" / "ash" / "ash7.jpg")
    assert open_dataset(config).fingerprint != hashlib.sha256(b"".join(names)).hexdigest()


def test_links_to_folders_count_as_folders(folder: Path, trees: Trees) -> None:
    (folder / "train" / "birch").rename(folder / "elsewhere")
    (folder / "train" / "birch").symlink_to(folder / "elsewhere")
    assert (
        open_dataset(trees("image_folder", folder)).train.labels.tolist()
        == [0] * 4 + [1] * 4 + [2] * 4
    )


def test_other_folders_than_train_and_val_can_be_named(folder: Path, trees: Trees) -> None:
    (folder / "val").rename(folder / "validation")
    assert len(open_dataset(trees("image_folder", folder, val="validation")).val.labels) == 6


@pytest.mark.parametrize("root", [None, Path("/nowhere/at/all")])
def test_a_missing_folder_names_the_field_to_set(root: Path | None, trees: Trees) -> None:
    with pytest.raises(
        DataError, match=r"data.root: .*IMAGENET=.*data\.root=.*train/<class>/.*profile=mini"
    ):
        open_dataset(trees("image_folder", root))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda root: (root / "val" / "birch").rename(root / "val" / "beech"),
            "only train has birch; only val has beech$",
        ),
        (
            lambda root: [p.unlink() for p in (root / "train" / "ash").iterdir()],
            r"no image in 1 class folder.*ash",
        ),
        (
            lambda root: [p.rename(p.with_suffix(".gif")) for p in (root / "train").rglob("*.jpg")],
            "ash, birch, cedar",
        ),
        (
            lambda root: (root / "train").rename(root / "trains"),
            f"there is no folder .*{'train'}; set IMAGENET",
        ),
        (
            lambda root: [p.rename(root / "val" / p.name) for p in (root / "val").glob("*/*")],
            "no image in 3 class",
        ),
        (
            lambda root: (root / "train" / "ash" / "ash0.jpg").unlink(),
            r"data.num_train: the spec says 12.* has 11",
        ),
    ],
)
def test_an_unexpected_layout_is_one_message(
    change: Callable[[Path], object], message: str, folder: Path, trees: Trees
) -> None:
    change(folder)
    with pytest.raises(DataError, match=message):
        open_dataset(trees("image_folder", folder))


def test_a_folder_that_cannot_be_read_is_named(
    folder: Path, trees: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(
        DataError, match=rf"data.root: {folder}/train cannot be read \(Permission denied\)"
    ):
        open_dataset(trees("image_folder", folder))


def test_images_without_class_folders_are_refused(folder: Path, trees: Trees) -> None:
    for path in sorted((folder / "train").rglob("*"), reverse=True):
        path.rename(folder / "train" / path.name) if path.is_file() else path.rmdir()
    with pytest.raises(DataError, match="has no class folders"):
        open_dataset(trees("image_folder", folder))


def test_a_single_class_is_refused(folder: Path, trees: Trees) -> None:
    for split in ("train", "val"):
        for name in ("birch", "cedar"):
            for path in (folder / split / name).iterdir():
                path.unlink()
            (folder / split / name).rmdir()
    with pytest.raises(DataError, match="has a single class"):
        open_dataset(trees("image_folder", folder))
