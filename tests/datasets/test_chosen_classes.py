from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from antioversmooth.config import DataConfig
from antioversmooth.datasets import cache
from antioversmooth.datasets.dataset import cached_checksums, open_dataset
from antioversmooth.errors import DataError, SpecError

Trees = Callable[..., DataConfig]
TWO = {"num_classes": 2, "num_train": 8, "num_val": 4}


@pytest.mark.parametrize("source", ["image_folder", "tar"])
def test_some_classes_of_a_data_set_are_the_data_set_that_has_only_these(
    source: str, folder: Path, trees: Trees
) -> None:
    """Whatever the order in which the spec names them."""
    fewer = shutil.copytree(folder, folder.parent / "fewer")
    for split in ("train", "val"):
        shutil.rmtree(fewer / split / "birch")
    chosen = open_dataset(trees(source, _stored(folder, source), **TWO, classes=["cedar", "ash"]))
    alone = open_dataset(trees(source, _stored(fewer, source), **TWO))
    assert chosen.classes == alone.classes == ["ash", "cedar"]
    for some, all_ in ((chosen.train, alone.train), (chosen.val, alone.val)):
        assert some.labels.tolist() == all_.labels.tolist()
        read = [some.read(index) for index in range(len(some.labels))]
        assert read == [all_.read(index) for index in range(len(all_.labels))]


def test_the_order_of_chosen_classes_does_not_matter(folder: Path, trees: Trees) -> None:
    one, other = (
        trees("image_folder", folder, **TWO, classes=names)
        for names in (["cedar", "ash"], ["ash", "cedar"])
    )
    assert one == other


def test_all_classes_and_some_have_listings_of_their_own(
    folder: Path, trees: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "SETTLED_S", -60)
    every = trees("image_folder", folder)
    some = trees("image_folder", folder, **TWO, classes=["ash", "cedar"])
    for config in (every, some, every, some):
        assert open_dataset(config).counts()["num_classes"] == config.num_classes
        assert cached_checksums(config) is not None
    assert cached_checksums(some) != cached_checksums(every)


def test_a_class_that_is_not_there_is_named(folder: Path, trees: Trees) -> None:
    with pytest.raises(DataError, match=r"has no class elm; it has ash, birch, cedar"):
        open_dataset(trees("image_folder", folder, **TWO, classes=["ash", "elm"]))


@pytest.mark.parametrize(
    ("source", "given", "message"),
    [
        ("cifar100", {}, r"data\.classes: .* empty: data\.source=cifar100 is used with all"),
        ("image_folder", {"num_classes": 3}, r"data\.num_classes: 3 .* 2, the classes that"),
        ("image_folder", {"classes": ["ash", "ash"]}, r"each class at most once"),
    ],
)
def test_classes_that_cannot_be_chosen_are_refused(
    source: str, given: dict[str, object], message: str, trees: Trees
) -> None:
    with pytest.raises(SpecError, match=message):
        trees(source, None, **{**TWO, "classes": ["ash", "cedar"], **given})


def _stored(folder: Path, source: str) -> Path:
    """The images of a folder, as a source stores them."""
    if source == "tar":
        for split in ("train", "val"):
            with tarfile.open(folder / f"{split}.tar", "w") as file:
                file.add(folder / split, ".")
    return folder
