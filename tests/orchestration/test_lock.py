from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from antioversmooth.errors import LaunchError
from antioversmooth.orchestration import lock
from antioversmooth.orchestration.lock import try_lock


def test_of_two_one_has_the_lock_until_it_is_closed(tmp_path: Path) -> None:
    held = try_lock(tmp_path)
    assert held is not None
    assert try_lock(tmp_path) is None
    os.close(held)
    again = try_lock(tmp_path)
    assert again is not None
    os.close(again)


def test_a_file_system_without_locks_is_one_message_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    with pytest.raises(LaunchError, match=r"gives no locks \(Function not implemented\).*cluster.results=/path"):
        try_lock(tmp_path)
