"""MLflow kept up to date while somebody follows a launch."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from antioversmooth.background import background_thread
from antioversmooth.text import one_line

INTERVAL_S = 60.0
POLL_S = 0.2


@contextmanager
def mirroring(
    arguments: Sequence[str],
    project: Path,
    say: Callable[[str], None],
    *,
    interval_s: float = INTERVAL_S,
) -> Iterator[None]:
    """Syncs repeatedly in processes of its own, so that slow tracking delays nothing.

    Without MLflow it does nothing; the end of a launch says so.

    Args:
        arguments: What to sync, as on the command line: specs, overrides, `--seeds`.
        say: Shows a line, from another thread: the first failure, the recovery, and at the end of
            the block the failure of the last sync.
    """
    if find_spec("mlflow") is None:
        yield
        return
    # weights wait until the end
    command = [sys.executable, "-m", "antioversmooth", "sync", "--no-models", *arguments]
    problem = ""

    def repeat(over: threading.Event) -> None:
        nonlocal problem
        while not over.wait(interval_s):
            found = _sync(command, project, over)
            if found is None:
                return
            if found and not problem:
                say(f"MLflow is not kept up to date, trying again: {found}")
            if problem and not found:
                say("MLflow is up to date again")
            problem = found

    try:
        with background_thread(repeat, "mirroring"):
            yield
    finally:
        if problem:
            say(f"MLflow is not up to date: {problem}")


def _sync(command: Sequence[str], project: Path, over: threading.Event) -> str | None:
    """Why a sync failed; empty if it did not, None if it was over first and is ended.

    The next sync completes one that was ended.
    """
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            cwd=project,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        while process.poll() is None:
            if over.wait(POLL_S):
                process.kill()
                process.wait()
                return None
        if process.returncode == 0:
            return ""
        errors.seek(0)
        lines = errors.read().decode(errors="replace").strip().splitlines()
    return one_line(lines[-1] if lines else f"sync ended with exit code {process.returncode}")
