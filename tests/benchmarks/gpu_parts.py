"""Parts of a check that do not end well; imported in a process of their own."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def fails(_: Path) -> Iterator[tuple[str, Any]]:
    """Finds one number, and fails."""
    yield "first", 1
    raise RuntimeError("the device is lost")


def hangs(_: Path) -> Iterator[tuple[str, Any]]:
    """Finds one number, the id of a process that it starts, and never ends."""
    yield "first", 2
    yield "started", subprocess.Popen(["sleep", "600"]).pid
    time.sleep(600)
