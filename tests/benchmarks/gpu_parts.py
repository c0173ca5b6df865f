"""Parts of a check that do not end well; imported in a process of their own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def fails(_: Path) -> Iterator[tuple[str, Any]]:
    """Finds one number, and fails."""
    yield "first", 1
    raise RuntimeError("the device is lost")


def hangs(folder: Path) -> Iterator[tuple[str, Any]]:
    """Finds one number, starts a process that would write a file later, and never ends."""
    yield "first", 2
    late = "import sys, time, pathlib; time.sleep(4); pathlib.Path(sys.argv[1]).touch()"
    subprocess.Popen([sys.executable, "-c", late, str(folder / "late")])
    time.sleep(600)
