from __future__ import annotations

import hashlib
import os
import secrets
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
    with pytest.raises(OSError, match=r"No space left on device: .*result\.json"):
        files.write_json(path, {"top1": 81.0})
    assert files.read_json(path) == {"top1": 80.0}
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_json_file_is_none(tmp_path: Path) -> None:
    assert files.read_json(tmp_path / "none.json") is None


BAD_NUMBERS = {
    "": float("nan"),
    "top1": {"top1": float("inf")},
    "tokens.1": {"tokens": [0.5, float("-inf")]},
    "rows.0.seeds.1.loss": {"rows": [{"seeds": [{}, {"loss": float("nan")}]}]},
}
"""Values with a number that is not finite, by its key."""


@pytest.mark.parametrize(("key", "value"), BAD_NUMBERS.items(), ids=BAD_NUMBERS)
def test_a_number_that_is_not_finite_is_named_and_not_written(
    tmp_path: Path, key: str, value: object
) -> None:
    path = tmp_path / "result.json"
    with pytest.raises(ValueError, match=rf"result\.json: .*{key}.* not a finite number"):
        files.write_json(path, value)
    assert not path.exists()


@pytest.mark.parametrize("text", ["NaN", '{"a": [Infinity]}', '{"a": -Infinity}', "1e999"])
def test_a_file_with_a_number_that_is_not_finite_is_no_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(ValueError, match="not a finite number"):
        files.read_json(tmp_path / "file")


def test_writers_with_the_same_process_id_replace_a_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of two containers that share a folder."""
    monkeypatch.setattr(os, "getpid", lambda: 7)
    path = tmp_path / "file"
    with files.replacing(path) as one, files.replacing(path) as other:
        one.write(b"one" * 100)
        other.write(b"other")
    assert path.read_bytes() == b"one" * 100
    assert list(tmp_path.iterdir()) == [path]


def test_a_temporary_file_follows_no_link_and_takes_no_file_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "token_hex", lambda _: "known")
    private = tmp_path / "private"
    private.write_text("mine")
    (tmp_path / ".file.known.tmp").symlink_to(private)
    with pytest.raises(OSError, match="File exists"):
        files.write_atomic(tmp_path / "file", "text")
    assert private.read_text() == "mine"


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
