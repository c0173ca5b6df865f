from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from antioversmooth import files


def test_a_failed_write_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "result.json"
    files.write_json(path, {"top1": 80.0})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_json(path, {"top1": 81.0})
    assert files.read_json(path) == {"top1": 80.0}
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_json_file_is_none(tmp_path: Path) -> None:
    assert files.read_json(tmp_path / "none.json") is None


def test_files_take_the_users_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        files.write_atomic(tmp_path / "file", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_checksum_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert files.sha256(tmp_path / "file") == hashlib.sha256(b"abc").hexdigest()
