"""Hugging Face data sets on disk: written by `save_to_disk`, or a folder for `load_dataset`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from antioversmooth import installation
from antioversmooth.config import DataConfig
from antioversmooth.errors import DataError

SPLITS = {"train": "train", "val": "validation"}
IMAGE = "image"
"""Column of the images."""


@dataclass(frozen=True)
class TableImages:
    """Images in the rows of a memory-mapped table."""

    table: Any
    """A datasets.Dataset with undecoded images."""
    labels: npt.NDArray[np.int64]
    source: str
    fingerprint: str
    """The library's, over the files and the rows of the table."""

    def read(self, index: int) -> bytes:
        image = self.table[index][IMAGE]
        if image is None:
            raise OSError(f"{self.name(index)} is empty")
        return bytes(image["bytes"]) if image["bytes"] else Path(image["path"]).read_bytes()

    def name(self, index: int) -> str:
        return f"{self.source}[{index}]"


def read_splits(config: DataConfig) -> tuple[list[str], dict[str, TableImages], str]:
    """Classes, the splits, and a sha256 over names and sizes of the files.

    Raises:
        DataError: There is no such data set, split or column, or the package `datasets` is not
            installed.
    """
    if find_spec("datasets") is None:
        raise DataError(
            f"{config.name}: data.source=huggingface needs the package datasets:"
            f" {installation.remedy('datasets')}"
        )
    root = Path(config.root or "")
    label = config.label or "label"
    tables = {split: _table(root, getattr(config, split) or name) for split, name in SPLITS.items()}
    for split, table in tables.items():
        for column in (IMAGE, label):
            if column not in table.column_names:
                raise DataError(
                    f"{root}: {split} has no column {column!r}; it has"
                    f" {', '.join(table.column_names)}"
                )
    splits = {split: _images(table, label, f"{root}:{split}") for split, table in tables.items()}
    names = getattr(tables["train"].features[label], "names", None)
    return names or _class_numbers(splits), splits, _fingerprint(root)


def _table(root: Path, split: str) -> Any:
    # takes a second, and imports pandas
    import datasets

    datasets.disable_progress_bars()
    saved = [folder for folder in (root, root / split) if (folder / "state.json").is_file()]
    try:
        if (root / "dataset_dict.json").is_file():
            return datasets.load_from_disk(str(root))[split]
        if saved:
            return datasets.load_from_disk(str(saved[0]))
        return datasets.load_dataset(str(root), split=split)
    except KeyError as err:
        raise DataError(
            f"{root} has no split {split!r}; name another one with data.train, data.val"
        ) from err
    except MemoryError:
        raise
    except Exception as err:
        # of many types, for files that are missing, foreign, empty or torn
        cause = err.__cause__ or err
        raise DataError(
            f"{root}: no Hugging Face data set with a split {split!r} ({cause})"
        ) from err


def _images(table: Any, label: str, source: str) -> TableImages:
    import datasets

    try:
        found = np.array(table.with_format("numpy")[label][:])
        with np.errstate(invalid="ignore"):
            labels = found.astype(np.int64)
        if not np.array_equal(labels, found):
            raise ValueError("fractions, or rows without a label")
        images = table.cast_column(IMAGE, datasets.Image(decode=False))
    except (ValueError, TypeError) as err:
        # labels that are words, or a column that is no image
        raise DataError(
            f"{source}: {label} must hold class numbers and {IMAGE} images; they hold"
            f" {table.features[label]} and {table.features[IMAGE]}"
        ) from err
    if len(labels) and labels.min() < 0:
        raise DataError(
            f"{source}: row {int(labels.argmin())} has no label ({label} is {labels.min()})"
        )
    return TableImages(images, labels, source, table._fingerprint)


def _class_numbers(splits: dict[str, TableImages]) -> list[str]:
    highest = max(int(images.labels.max(initial=0)) for images in splits.values())
    return [str(label) for label in range(1 + highest)]


def _fingerprint(root: Path) -> str:
    found = sorted(
        (path.relative_to(root), path.stat().st_size) for path in root.rglob("*") if path.is_file()
    )
    return hashlib.sha256("\n".join(f"{path} {size}" for path, size in found).encode()).hexdigest()
