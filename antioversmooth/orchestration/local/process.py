"""The process that trains a run on this machine, and how another terminal asks it to end.

process.json    {"time", "host", "pid", "launched"} of the first process of the newest local
                attempt, which holds the run's lock; `launched` is the time of its intent
cancelled       made to end the run in the launch that is under way; a launch removes those that
                were there before it, so that no clock decides to which launch one belongs
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from antioversmooth import files
from antioversmooth.errors import LaunchError
from antioversmooth.files import read_mapping
from antioversmooth.runs import Run
from antioversmooth.runs.lock import try_lock


def record_process(run: Run, pid: int, intent: Mapping[str, Any]) -> None:
    """Records the process that trains the run.

    Args:
        intent: Of the launch that started it.
    """
    facts = {"time": time.time(), "host": socket.gethostname(), "pid": pid}
    files.write_json(run.dir / "process.json", {**facts, "launched": intent["time"]})


def ask_to_end(run: Run) -> int | None:
    """Asks the process that trains a run to save and to end; returns its id, None without one.

    A launch that is under way does not start the run any more. The directory exists: a launch makes
    those of all its runs before it starts the first.

    Raises:
        LaunchError: Another machine trains it.
    """
    (run.dir / "cancelled").touch()
    known, intent = (read_mapping(run.dir / name) for name in ("process.json", "intent.json"))
    pid, host = known.get("pid"), known.get("host")
    # a run that is just starting is ended by its launcher
    if not _is_held(run) or type(pid) is not int or pid <= 1:
        return None
    if not known.get("launched") or known["launched"] != intent.get("time"):
        return None
    if host != socket.gethostname():
        raise LaunchError(f"{run.name} is trained on {host}; cancel it there")
    # between two attempts the launcher holds the lock alone
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    return pid


def forget_requests(run: Run) -> None:
    """Removes what asked earlier launches to end the run: the one that begins runs it."""
    path = run.dir / "cancelled"
    if path.is_dir() and not path.is_symlink():
        raise LaunchError(f"{path} is a folder, and no request to end {run.name}; remove it")
    path.unlink(missing_ok=True)


def was_asked_to_end(run: Run) -> bool:
    """Whether a person has cancelled the run since this launch began."""
    return os.path.lexists(run.dir / "cancelled")


def _is_held(run: Run) -> bool:
    """Whether a launcher, or a process that it started, holds the run."""
    lock = try_lock(run.dir)
    if lock is None:
        return True
    os.close(lock)
    return False
