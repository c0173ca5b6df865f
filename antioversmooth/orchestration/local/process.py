"""The process that trains a run on this machine: who it is, and how another terminal asks it to
end.

{"time", "host", "pid"} in process.json    the first process of the newest local attempt; it holds the run's lock
cancelled                                  touched when a person wants the run to end; later launches ignore it
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


def record_process(run: Run, pid: int) -> None:
    """Writes down the process that trains the run."""
    files.write_json(
        run.dir / "process.json", {"time": time.time(), "host": socket.gethostname(), "pid": pid}
    )


def ask_to_end(run: Run) -> int | None:
    """The process that was told to save and to end; None where none trains this run here.

    Launches that are under way start the run no more, nor again. Its directory is there: they make
    those of all their runs before they start the first.

    Raises:
        LaunchError: Another machine trains it.
    """
    (run.dir / "cancelled").touch()
    known = files.read_json(run.dir / "process.json") or {}
    intent = files.read_json(run.dir / "intent.json") or {}
    # a run that is just starting is ended by its launcher
    if not _is_held(run) or not known or known["time"] < intent["time"]:
        return None
    if known["host"] != socket.gethostname():
        raise LaunchError(f"{run.name} is trained on {known['host']}; cancel it there")
    # between two attempts the launcher holds the lock alone
    with suppress(ProcessLookupError):
        os.kill(known["pid"], signal.SIGTERM)
    return int(known["pid"])


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
