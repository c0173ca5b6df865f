from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from antioversmooth.config import DataConfig, DataSource
from antioversmooth.datasets import cache, dataset
from antioversmooth.datasets.dataset import open_dataset

Trees = Callable[..., DataConfig]


LONG_S = 100.0
REAL_TIME = time.time


@pytest.fixture
def old(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set that has not changed for a while, by the clock of the cache."""
    later = time.time() - time.monotonic() + LONG_S
    monkeypatch.setattr(cache.time, "time", lambda: time.monotonic() + later)
    differ_in_time(folder)
    return folder


def differ_in_time(folder: Path) -> None:
    """Makes sure that not all folders changed within one tick of the file system's clock."""
    time.sleep(0.05)
    (folder / "val" / "ash").chmod(0o755)


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


def test_a_change_is_seen_although_the_folder_has_its_old_time_stamp(
    old: Path, trees: Trees, scans: list[str]
) -> None:
    """As after tar, rsync or touch."""
    for path in [old, *old.rglob("*")]:
        os.utime(path, (1e9, 1e9))
    differ_in_time(old)
    config = trees("image_folder", old)
    before = open_dataset(config).fingerprint
    (old / "val" / "ash" / "ash0.jpg").rename(old / "val" / "ash" / "new.jpg")
    for path in [old, *old.rglob("*")]:
        os.utime(path, (1e9, 1e9))
    differ_in_time(old)
    assert open_dataset(config).fingerprint != before
    assert open_dataset(config).fingerprint != before
    assert len(scans) == 4


@pytest.mark.parametrize("times", [(0, 0), (10**18, 10**18)], ids=["none", "that of the mount"])
def test_no_listing_is_cached_where_all_folders_have_the_same_time(
    times: tuple[int, int],
    old: Path,
    trees: Trees,
    scans: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on s3fs and goofys. No such file system can be mounted here: only stat answers so."""
    stat = Path.stat

    def constant(path: Path, **options: bool) -> object:
        found = stat(path, **options)
        return SimpleNamespace(
            st_mtime_ns=times[0], st_ctime_ns=times[1], st_mode=found.st_mode, st_size=found.st_size
        )

    monkeypatch.setattr(cache.Path, "stat", constant)
    config = trees("image_folder", old)
    assert [len(open_dataset(config).train.labels) for _ in range(2)] == [12, 12]
    assert len(scans) == 4


def test_what_changes_while_it_is_listed_is_listed_again(
    old: Path, trees: Trees, scans: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class folder that was read already, by a scan that takes minutes."""
    scan = dataset.SCANS[DataSource.image_folder]

    def slow(config: DataConfig, split: str) -> object:
        found = scan(config, split)
        if len(scans) == 2:
            (old / "val" / "ash" / "ash0.jpg").rename(old / "val" / "ash" / "new.jpg")
            for path in [old, *old.rglob("*")]:
                os.utime(path)
            differ_in_time(old)
            monkeypatch.setattr(cache.time, "time", lambda: time.monotonic() + later)
        return found

    later = time.time() - time.monotonic() + LONG_S
    monkeypatch.setattr(cache.time, "time", REAL_TIME)
    monkeypatch.setitem(dataset.SCANS, DataSource.image_folder, slow)  # type: ignore[arg-type]
    config = trees("image_folder", old)
    before, after = open_dataset(config).fingerprint, open_dataset(config).fingerprint
    assert before != after
    assert len(scans) == 4


def test_a_listing_can_be_asked_for_anew(old: Path, trees: Trees, scans: list[str]) -> None:
    config = trees("image_folder", old)
    open_dataset(config)
    assert dataset.dataset_facts(config, anew=True)["num_train"] == 12
    assert len(scans) == 4
    open_dataset(config)
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
