from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from torchvision.datasets import MNIST

from antioversmooth.config import DataConfig
from antioversmooth.datasets.dataset import dataset_facts, open_dataset
from antioversmooth.datasets.images import ArrayImages
from antioversmooth.datasets.layouts.idx import stratified_subset
from antioversmooth.errors import DataError

Trees = Callable[..., DataConfig]
TYPES = {"uint8": 8, "float32": 13}


def idx(array: npt.NDArray[Any]) -> bytes:
    """The array as an IDX file, byte by byte as the format's page has it."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, TYPES[array.dtype.name], array.ndim]) + sizes + array.tobytes()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twelve training and six validation images of 5 x 5 pixels, of three classes."""
    generator = np.random.default_rng(0)
    for prefix, count in (("train", 12), ("t10k", 6)):
        pixels = generator.integers(0, 256, (count, 5, 5), np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 3
        (tmp_path / f"{prefix}-images-idx3-ubyte").write_bytes(idx(pixels))
        (tmp_path / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(labels))
    return tmp_path


def test_images_are_those_of_torchvision(
    root: Path, trees: Trees, tmp_path_factory: pytest.TempPathFactory
) -> None:
    found = open_dataset(trees("idx", root))
    theirs = tmp_path_factory.mktemp("theirs")
    (theirs / "MNIST").mkdir()
    (theirs / "MNIST" / "raw").symlink_to(root)
    for images, train in ((found.train, True), (found.val, False)):
        expected = MNIST(str(theirs), train=train)
        assert isinstance(images, ArrayImages)
        assert np.array_equal(images.pixels[:, 0], expected.data.numpy())
        assert images.labels.tolist() == expected.targets.tolist()
    assert found.classes == ["0", "1", "2"]
    assert found.subset == ""


def test_compressed_files_are_the_same_data_set(root: Path, trees: Trees) -> None:
    plain = open_dataset(trees("idx", root))
    for path in list(root.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    packed = open_dataset(trees("idx", root))
    assert packed.fingerprint == plain.fingerprint
    assert np.array_equal(packed.train.labels, plain.train.labels)


@pytest.mark.parametrize(("prefix", "split"), [("train", "training"), ("t10k", "validation")])
def test_a_split_that_lacks_a_class_is_refused(
    prefix: str, split: str, root: Path, trees: Trees
) -> None:
    path = root / f"{prefix}-labels-idx1-ubyte"
    content = path.read_bytes()
    path.write_bytes(content[:8] + bytes(label % 2 for label in content[8:]))
    with pytest.raises(DataError, match=rf"no {split} image of 1 class\(es\): 2$"):
        open_dataset(trees("idx", root))


@pytest.mark.parametrize(("split", "of"), [("train", 12), ("val", 6)])
def test_a_part_too_small_for_every_class_is_refused_by_its_number(
    split: str, of: int, root: Path, trees: Trees
) -> None:
    message = rf"of 1 class\(es\): .; data.num_{split}=2 of the {of} in .*idx3-ubyte are too few"
    with pytest.raises(DataError, match=message):
        open_dataset(trees("idx", root, **{f"num_{split}": 2}))


def test_a_file_that_is_there_plain_and_compressed_is_refused_with_both_names(
    root: Path, trees: Trees
) -> None:
    path = root / "t10k-labels-idx1-ubyte"
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(DataError, match=rf"both {path.name} and {path.name}\.gz"):
        open_dataset(trees("idx", root))


def test_another_beginning_of_the_names_can_be_given(root: Path, trees: Trees) -> None:
    for path in list(root.iterdir()):
        letters = path.name.replace("train", "emnist-letters-train").replace("t10k", "letters-test")
        path.rename(root / letters)
    named = trees("idx", root, train="emnist-letters-train", val="letters-test")
    assert open_dataset(named).counts() == {"num_classes": 3, "num_train": 12, "num_val": 6}


def test_labels_that_begin_at_one_are_numbered_from_zero(root: Path, trees: Trees) -> None:
    for prefix in ("train", "t10k"):
        path = root / f"{prefix}-labels-idx1-ubyte"
        content = path.read_bytes()
        path.write_bytes(content[:8] + bytes(label + 1 for label in content[8:]))
    found = open_dataset(trees("idx", root))
    assert found.classes == ["1", "2", "3"]
    assert found.val.labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_fewer_images_than_the_file_has_are_a_stated_part_of_it(root: Path, trees: Trees) -> None:
    config = trees("idx", root, num_train=7, num_val=3)
    found = open_dataset(config)
    assert np.bincount(found.train.labels).tolist() in ([3, 2, 2], [2, 3, 2], [2, 2, 3])
    assert np.bincount(found.val.labels).tolist() == [1, 1, 1]
    stated = "7 of 12 training images and 3 of 6 validation images, stratified by class"
    assert found.subset == stated
    assert dataset_facts(config)["subset"] == stated
    assert found.fingerprint == open_dataset(trees("idx", root)).fingerprint


def test_a_subset_has_the_shares_of_all_and_lies_in_every_larger_one() -> None:
    labels = np.random.default_rng(1).choice(4, 1000, p=[0.1, 0.2, 0.3, 0.4])
    sizes = np.bincount(labels)
    smaller: set[int] = set()
    for count in (10, 100, 333, 1000):
        chosen = stratified_subset(labels, count)
        assert len(set(chosen.tolist())) == count
        assert (np.diff(chosen) > 0).all()
        assert smaller <= set(chosen.tolist())
        assert abs(np.bincount(labels[chosen], minlength=4) - sizes * count / 1000).max() <= 1
        smaller = set(chosen.tolist())


def test_more_images_than_the_file_has_are_refused(root: Path, trees: Trees) -> None:
    with pytest.raises(DataError, match=r"num_train: the spec says 13, trees under .* has 12"):
        open_dataset(trees("idx", root, num_train=13))


DAMAGE = {
    "torn": (lambda whole: whole[:-1], r"torn .* 12 x 5 x 5 bytes, 299 follow"),
    "joined": (lambda whole: whole + b"x", r"12 x 5 x 5 bytes, 301 follow"),
    "header cut": (lambda whole: whole[:9], "is not an IDX file"),
    "another format": (lambda _: b"\x89PNG" + bytes(400), "is not an IDX file"),
    "floats": (lambda _: idx(np.zeros((12, 5, 5), np.float32)), "values of type 0x0d; .* 0x08"),
    "colour": (lambda _: idx(np.zeros((12, 5, 5, 3), np.uint8)), "has 4 dimensions; grey .* 3"),
    "fewer": (lambda _: idx(np.zeros((11, 5, 5), np.uint8)), r"has 12 labels, .* has 11 images"),
    "torn gzip": (lambda whole: gzip.compress(whole)[:-9], "is a damaged gzip file"),
    "odd gzip": (lambda whole: gzip.compress(whole)[:20] + b"\0" * 90, "is a damaged gzip file"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_file_of_other_content_is_refused_by_name(kind: str, root: Path, trees: Trees) -> None:
    change, message = DAMAGE[kind]
    path = root / "train-images-idx3-ubyte"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=message) as refused:
        open_dataset(trees("idx", root))
    assert str(path) in str(refused.value)


def test_missing_data_is_named_with_the_packages_that_hold_it(root: Path, trees: Trees) -> None:
    (root / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"no file .*t10k-labels-idx1-ubyte, nor .*\.gz; .*apt-get"):
        open_dataset(replace(trees("idx", root), name="Fashion-MNIST"))
    shipped = replace(trees("idx", root / "absent"), name="Fashion-MNIST")
    with pytest.raises(DataError, match=r"no folder .*dpkg-deb -x .*FASHION_MNIST=/path"):
        open_dataset(shipped)
    other = replace(shipped, name="EMNIST", train="letters-train", val="letters-test")
    with pytest.raises(
        DataError, match=r"with letters-train-images.* and letters-test-\.\.\."
    ) as said:
        open_dataset(other)
    assert "apt-get" not in str(said.value)
