from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from antioversmooth.errors import LaunchError
from antioversmooth.runs.lock import LAUNCH_LOCK, TRAINING_LOCK, hold_lock, try_lock


def test_of_two_one_has_the_lock_until_it_is_closed(tmp_path: Path) -> None:
    held = try_lock(tmp_path)
    assert held is not None
    assert try_lock(tmp_path) is None
    os.close(held)
    again = try_lock(tmp_path)
    assert again is not None
    os.close(again)


def test_a_lock_that_is_not_released_in_time_is_an_error(tmp_path: Path) -> None:
    with (
        hold_lock(tmp_path, LAUNCH_LOCK, timeout_s=0, message="first"),
        pytest.raises(LaunchError, match="second"),
        hold_lock(tmp_path, LAUNCH_LOCK, timeout_s=0, message="second"),
    ):
        pass
    with hold_lock(tmp_path, LAUNCH_LOCK, timeout_s=0, message="third") as descriptor:
        assert os.fstat(descriptor).st_ino == (tmp_path / LAUNCH_LOCK).stat().st_ino


def test_the_lock_of_a_launcher_does_not_block_training(tmp_path: Path) -> None:
    starts, trains = (try_lock(tmp_path, name) for name in (LAUNCH_LOCK, TRAINING_LOCK))
    assert starts is not None
    assert trains is not None
    assert try_lock(tmp_path, TRAINING_LOCK) is None
    os.close(starts)
    os.close(trains)


def test_a_file_system_without_locks_is_one_message_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(
        LaunchError, match=r"gives no locks \(Function not implemented\).*cluster.results=/path"
    ):
        try_lock(tmp_path)
