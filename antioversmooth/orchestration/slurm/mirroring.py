"""MLflow kept up to date while somebody follows a launch."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from antioversmooth.background import background_thread

INTERVAL_S = 60.0


@contextmanager
def mirroring(
    arguments: Sequence[str], project: Path, *, interval_s: float = INTERVAL_S
) -> Iterator[None]:
    """Syncs repeatedly in processes of its own, so that slow tracking delays nothing.

    Args:
        arguments: What to sync, as on the command line: specs, overrides, `--seeds`.
    """
    # weights wait until the end
    command = [sys.executable, "-m", "antioversmooth", "sync", "--no-models", *arguments]

    def repeat(over: threading.Event) -> None:
        while not over.wait(interval_s):
            subprocess.run(command, cwd=project, stdin=subprocess.DEVNULL, capture_output=True)

    with background_thread(repeat, "mirroring"):
        yield
