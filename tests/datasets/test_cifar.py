from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR100

from antioversmooth.config import DataConfig, DataSource
from antioversmooth.datasets.dataset import open_dataset
from antioversmooth.datasets.images import ArrayImages
from antioversmooth.datasets.layouts.packaged import PACKAGED
from antioversmooth.errors import DataError

Trees = Callable[..., DataConfig]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six training and three validation images of three fine classes, in the files of CIFAR-100."""
    generator = np.random.default_rng(0)
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    meta = {"fine_label_names": ["apple", "bee", "can"], "coarse_label_names": ["alive", "thing"]}
    (folder / "meta").write_bytes(pickle.dumps(meta, protocol=2))
    for name, count in (("train", 6), ("test", 3)):
        fine = [i % 3 for i in range(count)]
        pixels = generator.integers(0, 256, (count, 3072), np.uint8)
        content = {
            "data": pixels,
            "fine_labels": fine,
            "coarse_labels": [label // 2 for label in fine],
        }
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    return tmp_path


def test_images_are_those_of_torchvision(
    root: Path, trees: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = open_dataset(trees("cifar100", root, num_train=6, num_val=3))
    files = {
        name: (root / "cifar-100-python" / name).read_bytes() for name in ("train", "test", "meta")
    }
    sums = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(CIFAR100, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(
        CIFAR100, "meta", {"filename": "meta", "key": "fine_label_names", "md5": sums["meta"]}
    )
    for images, train in ((found.train, True), (found.val, False)):
        theirs = CIFAR100(str(root), train=train)
        assert isinstance(images, ArrayImages)
        assert np.array_equal(images.pixels.transpose(0, 2, 3, 1), theirs.data)
        assert images.labels.tolist() == theirs.targets
        assert found.classes == theirs.classes


def test_superclasses_can_be_the_classes(root: Path, trees: Trees) -> None:
    found = open_dataset(
        trees("cifar100", root, num_classes=2, num_train=6, num_val=3, label="coarse")
    )
    assert found.classes == ["alive", "thing"]
    assert found.val.labels.tolist() == [0, 0, 1]


def test_a_file_that_would_run_something_is_refused(root: Path, trees: Trees) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(root / "trapped"),)

    (root / "cifar-100-python" / "train").write_bytes(pickle.dumps({"data": Trap()}))
    with pytest.raises(DataError, match=r"train is not a file of CIFAR-100 .*mkdir"):
        open_dataset(trees("cifar100", root, num_train=6, num_val=3))
    assert not (root / "trapped").exists()


def test_a_missing_file_is_named(root: Path, trees: Trees) -> None:
    (root / "cifar-100-python" / "test").unlink()
    with pytest.raises(DataError, match=r"no file .*test; set CIFAR100=/path"):
        open_dataset(trees("cifar100", root, num_train=6, num_val=3))


def test_labels_that_are_no_class_or_not_one_an_image_are_refused(root: Path, trees: Trees) -> None:
    for labels, message in (
        ([0, 1, 2, 0, 1], "6 images, labels of shape"),
        ([0, 1, 2, 0, 1, -1], "a training image has label -1"),
        ([0, 1, 2, 0, 1, 3], "a training image has label 3"),
        ([0, 1, 2, 0, 1, "bee"], "train is not a file of CIFAR-100"),
    ):
        content = {"data": np.zeros((6, 3072), np.uint8), "fine_labels": labels}
        (root / "cifar-100-python" / "train").write_bytes(pickle.dumps(content))
        with pytest.raises(DataError, match=message):
            open_dataset(trees("cifar100", root, num_train=6, num_val=3))


def test_a_damaged_file_is_refused_whatever_exception_it_causes(root: Path, trees: Trees) -> None:
    path = root / "cifar-100-python" / "train"
    whole = path.read_bytes()
    refused = 0
    for place in range(150):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            open_dataset(trees("cifar100", root, num_train=6, num_val=3))
        except DataError:
            refused += 1
    assert refused > 75, refused


@pytest.mark.parametrize("source", PACKAGED)
def test_a_spec_knows_the_size_of_packaged_images(source: DataSource) -> None:
    data = DataConfig("packaged", source, num_classes=10, num_train=0, num_val=1)
    assert data.image_side == PACKAGED[source].side


@pytest.mark.parametrize("source", PACKAGED)
def test_the_counts_of_packaged_images_are_those_that_a_run_reads(source: DataSource) -> None:
    facts = PACKAGED[source].facts()
    counts = {key: int(facts[key]) for key in ("num_classes", "num_train", "num_val")}
    data = DataConfig("packaged", source, **counts)
    assert open_dataset(data).facts() == facts
