"""Locks of a run directory: on one machine, one launcher starts a run and one process trains it.

A lock is the kernel's (flock): it ends with the last process that holds it, however that process
dies, so there is no stale lock to clean up. A child that inherits it keeps the run locked when its
launcher is killed.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from antioversmooth.errors import LaunchError

LAUNCH_LOCK = "launch.lock"
"""Held by the launcher of the run and by the processes that it starts."""
TRAINING_LOCK = "lock"
"""Held by the process that trains the run and writes its directory."""
POLL_S = 0.05


@contextmanager
def hold_lock(directory: Path, name: str, *, timeout_s: float, message: str) -> Iterator[int]:
    """Holds a lock of a run directory, and waits while another process has it.

    Args:
        message: Of the error after the timeout.

    Yields:
        The file descriptor that holds the lock.

    Raises:
        LaunchError: Another process still has the lock after `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while (descriptor := try_lock(directory, name)) is None:
        if time.monotonic() > deadline:
            raise LaunchError(message)
        time.sleep(POLL_S)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def try_lock(directory: Path, name: str = LAUNCH_LOCK) -> int | None:
    """A file descriptor that holds a lock of a run directory; None while another process has it.

    Closing the descriptor releases the lock.

    Raises:
        LaunchError: The file system has no locks, as Lustre mounted without `flock`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory / name, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as err:
        os.close(descriptor)
        raise LaunchError(
            f"{directory}: its file system gives no locks ({err.strerror}), and without one a run"
            " could be started twice; choose another folder with cluster.results=/path"
        ) from err
    return descriptor
