"""Locks of a run directory on one machine: one for launchers, one for the process that trains.

A lock is the kernel's (flock): it ends with the last process that holds it, however that process
dies, so there is no stale lock to clean up. A child that inherits it keeps the run locked when its
launcher is killed.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from antioversmooth.errors import LaunchError

LAUNCHES = "launch.lock"
"""The lock of the launcher, and of the processes that it started."""
TRAINS = "lock"
"""The lock of the process that trains the run and writes its directory."""


def try_lock(directory: Path, name: str = LAUNCHES) -> int | None:
    """A file descriptor that holds a lock of a run directory until it is closed; None while another
    process does.

    Args:
        name: Which one.

    Raises:
        LaunchError: Its file system knows no locks, as Lustre where it is mounted without `flock`.
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
