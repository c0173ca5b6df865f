"""Small data sets on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from layouts import COUNTS, split_of

from antioversmooth.config import DataConfig, DataSource


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images at train/<class>/* and val/<class>/*."""
    root = tmp_path / "images"
    for split in COUNTS:
        for name, content in split_of(split).items():
            (root / split / name).parent.mkdir(parents=True, exist_ok=True)
            (root / split / name).write_bytes(content)
    return root


@pytest.fixture
def trees() -> Callable[..., DataConfig]:
    """Makes the spec of such a data set; arguments change its fields."""

    def make(source: str, root: Path | None, **changes: object) -> DataConfig:
        given = {"num_classes": 3, "num_train": 12, "num_val": 6, **changes}
        return DataConfig("trees", DataSource(source), str(root) if root else None, **given)  # type: ignore[arg-type]

    return make
