"""The process that trains a run on this machine, and how another terminal asks it to end.

process.json    {"time", "host", "pid"} of the first process of the newest local attempt, which
                holds the run's lock
cancelled       touched to end the run; later launches ignore it
"""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import suppress

from antioversmooth import files
from antioversmooth.errors import LaunchError
from antioversmooth.runs import Run
from antioversmooth.runs.lock import try_lock
from antioversmooth.runs.metrics import is_number
from antioversmooth.runs.record import read_mapping


def record_process(run: Run, pid: int) -> None:
    """Records the process that trains the run."""
    files.write_json(
        run.dir / "process.json", {"time": time.time(), "host": socket.gethostname(), "pid": pid}
    )


def ask_to_end(run: Run) -> int | None:
    """Asks the process that trains a run to save and to end; returns its id, None without one.

    A launch that is under way does not start the run any more. The directory exists: a launch makes
    those of all its runs before it starts the first.

    Raises:
        LaunchError: Another machine trains it.
    """
    (run.dir / "cancelled").touch()
    known, intent = (read_mapping(run.dir / name) for name in ("process.json", "intent.json"))
    time_known, time_launched = known.get("time"), intent.get("time", 0.0)
    pid, host = known.get("pid"), known.get("host")
    # a run that is just starting is ended by its launcher
    if not _is_held(run) or not (is_number(time_known) and is_number(time_launched)):
        return None
    if type(pid) is not int or time_known < time_launched:
        return None
    if host != socket.gethostname():
        raise LaunchError(f"{run.name} is trained on {host}; cancel it there")
    # between two attempts the launcher holds the lock alone
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    return pid


def was_asked_to_end(run: Run, since: float) -> bool:
    """Whether a person cancelled the run after a moment, in seconds since 1970."""
    try:
        return (run.dir / "cancelled").stat().st_mtime >= since
    except FileNotFoundError:
        return False


def _is_held(run: Run) -> bool:
    """Whether a launcher, or a process that it started, holds the run."""
    lock = try_lock(run.dir)
    if lock is None:
        return True
    os.close(lock)
    return False
