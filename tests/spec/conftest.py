from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def copy(tmp_path: Path, experiments: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the shipped specs, in the working directory."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(experiments, tmp_path / "experiments"))
