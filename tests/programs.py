"""Programs that some tests need and that pip cannot install."""

from __future__ import annotations

import os
import shutil

import pytest


def program(*names: str, package: str) -> str:
    """The path of the first of these that is installed. Without one the test is skipped, and failed
    in CI."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        stop = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        stop(f"needs {' or '.join(names)} (Debian: apt-get install {package})")
    return found
