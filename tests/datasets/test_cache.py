from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from antioversmooth.config import DataConfig
from antioversmooth.datasets import cache, dataset
from antioversmooth.datasets.dataset import open_dataset

Trees = Callable[..., DataConfig]


@pytest.fixture
def old(folder: Path) -> Path:
    """A data set that has not changed for a while."""
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (1_000_000, 1_000_000))
    return folder


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Splits that were really scanned."""
    seen: list[str] = []
    scan = dataset.folder.scan_split

    def counted(config: DataConfig, split: str) -> object:
        seen.append(split)
        return scan(config, split)

    source = next(source for source, found in dataset.SCANS.items() if found is scan)
    monkeypatch.setitem(dataset.SCANS, source, counted)  # type: ignore[arg-type]
    return seen


def test_an_unchanged_folder_is_scanned_once(old: Path, trees: Trees, scans: list[str]) -> None:
    first, second = (
        open_dataset(trees("image_folder", old)),
        open_dataset(trees("image_folder", old)),
    )
    assert scans == ["train", "val"]
    assert first.classes == second.classes
    assert first.fingerprint == second.fingerprint
    assert [first.val.name(i) for i in range(6)] == [second.val.name(i) for i in range(6)]
    assert np.array_equal(first.train.labels, second.train.labels)


def test_a_change_in_a_class_folder_is_seen(old: Path, trees: Trees, scans: list[str]) -> None:
    before = open_dataset(trees("image_folder", old)).fingerprint
    (old / "val" / "ash" / "ash0.jpg").rename(old / "val" / "ash" / "new.jpg")
    assert open_dataset(trees("image_folder", old)).fingerprint != before
    assert len(scans) == 4


def test_the_listing_of_a_folder_that_has_just_changed_is_not_cached(
    folder: Path, trees: Trees, scans: list[str]
) -> None:
    """Within one tick of the file system's clock it could change again unseen."""
    open_dataset(trees("image_folder", folder))
    assert not cache.cache_dir().exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", None])
def test_a_torn_listing_is_made_again(
    content: bytes | None, old: Path, trees: Trees, scans: list[str]
) -> None:
    open_dataset(trees("image_folder", old))
    (path,) = cache.cache_dir().iterdir()
    path.write_bytes(path.read_bytes()[:-200] if content is None else content)
    assert len(open_dataset(trees("image_folder", old)).train.labels) == 12
    assert len(scans) == 4


def test_a_listing_that_cannot_be_cached_is_made_all_the_same(
    old: Path,
    trees: Trees,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ANTIOVERSMOOTH_CACHE", str(tmp_path / "file" / "cache"))
    assert len(open_dataset(trees("image_folder", old)).train.labels) == 12
    assert "cannot cache the listing" in capsys.readouterr().err
