"""Hugging Face data sets on disk: written by `save_to_disk`, or a folder for `load_dataset`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from antioversmooth import installation
from antioversmooth.config import DataConfig
from antioversmooth.errors import DataError, and_more

SPLITS = {"train": "train", "val": "validation"}
IMAGE, LABEL = "image", "label"
"""Columns that are used where a table has them."""
Part = tuple[str, int, int]
"""Rows of a split of the data set: its name, the first row, and the row behind the last."""


@dataclass(frozen=True)
class TableImages:
    """Images in the rows of a memory-mapped table."""

    table: Any
    """A datasets.Dataset with undecoded images."""
    labels: npt.NDArray[np.int64]
    source: str
    fingerprint: str
    """The library's, over the files and the rows of the table."""
    parts: Sequence[Part] = ()
    """The rows that the table has of which splits, where `load_dataset` read it."""
    column: str = IMAGE

    def read(self, index: int) -> bytes:
        image = self.table[index][self.column]
        if image is None:
            raise OSError(f"{self.name(index)} is empty")
        return bytes(image["bytes"]) if image["bytes"] else Path(image["path"]).read_bytes()

    def name(self, index: int) -> str:
        return f"{self.source}[{index}]"


def read_splits(config: DataConfig) -> tuple[list[str], dict[str, TableImages], str]:
    """Classes, the splits, and a sha256 over names and sizes of the files.

    Raises:
        DataError: There is no such data set, split or column, a column is not the only one of its
            kind, or the package `datasets` is not installed.
    """
    if find_spec("datasets") is None:
        raise DataError(
            f"{config.name}: data.source=huggingface needs the package datasets:"
            f" {installation.remedy('datasets')}"
        )
    root = Path(config.root or "")
    places = {split: getattr(config, split) or name for split, name in SPLITS.items()}
    tables = {split: _table(root, place) for split, place in places.items()}
    label = config.label or _only_column(tables["train"], LABEL, "ClassLabel")
    splits = {}
    for split, table in tables.items():
        image = _only_column(table, IMAGE, "Image")
        for column, way_out in ((image, ""), (label, "; data.label names another one")):
            if column not in table.column_names:
                raise DataError(
                    f"{root}: {split} has no column {column!r}; it has"
                    f" {', '.join(table.column_names)}{way_out}"
                )
        parts = [] if _saved(root, places[split]) else _parts(table, places[split])
        splits[split] = _images(table, image, label, f"{root}:{split}", parts)
    names = getattr(tables["train"].features[label], "names", None)
    return names or _class_numbers(splits), splits, _fingerprint(root)


def _only_column(table: Any, usual: str, kind: str) -> str:
    """The column of the usual name; else the only one of the kind, by its class in the library."""
    found = [name for name, feature in table.features.items() if type(feature).__name__ == kind]
    return found[0] if usual not in table.column_names and len(found) == 1 else usual


def _table(root: Path, split: str) -> Any:
    # takes a second, and imports pandas
    import datasets

    datasets.disable_progress_bars()
    saved = _saved(root, split)
    try:
        if saved is None:
            return datasets.load_dataset(str(root), split=split)
        found = datasets.load_from_disk(str(saved))
        return found[split] if (saved / "dataset_dict.json").is_file() else found
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


def _saved(root: Path, split: str) -> Path | None:
    """The folder that `save_to_disk` wrote, of all splits or of one; None where it did not."""
    marks = (root / "dataset_dict.json", root / "state.json", root / split / "state.json")
    return next((mark.parent for mark in marks if mark.is_file()), None)


def _parts(table: Any, place: str) -> list[Part]:
    """The rows of a table that `load_dataset` read.

    Args:
        place: A split, or slices and sums of splits: `train[:80%]`.
    """
    import datasets

    lengths = {name: split.num_examples for name, split in table.info.splits.items()}
    found = datasets.ReadInstruction.from_spec(place).to_absolute(lengths)
    return [(part.splitname, part.from_, part.to) for part in found]


def stratified_halves(images: str, label: str | None) -> str:
    """Python that saves some images as a data set of two splits, both with a share of each class.

    Args:
        images: Python that loads them.
    """
    return (
        f"images = {images};"
        f" halves = images.train_test_split(0.2, stratify_by_column={label or LABEL!r});"
        " datasets.DatasetDict(train=halves['train'], validation=halves['test'])"
        ".save_to_disk(NEWDIR)"
    )


def shared_rows(one: TableImages, other: TableImages) -> str:
    """Rows that both tables have, as a clause with their number; empty where there are none."""
    pairs = [
        (split, max(first, start), min(end, stop))
        for split, first, end in one.parts
        for name, start, stop in other.parts
        if name == split
    ]
    shared = [f"{split}[{first}:{end}]" for split, first, end in pairs if first < end]
    count = sum(max(0, end - first) for _, first, end in pairs)
    return f"{count:,} rows: {and_more(shared, 3)}" if count else ""


def _images(table: Any, image: str, label: str, source: str, parts: Sequence[Part]) -> TableImages:
    import datasets

    try:
        found = np.array(table.with_format("numpy")[label][:])
        with np.errstate(invalid="ignore"):
            labels = found.astype(np.int64)
        if not np.array_equal(labels, found):
            raise ValueError("fractions, or rows without a label")
        images = table.cast_column(image, datasets.Image(decode=False))
    except (ValueError, TypeError) as err:
        # labels that are words, or a column that is no image
        raise DataError(
            f"{source}: {label} must hold class numbers and {image} images; they hold"
            f" {table.features[label]} and {table.features[image]}; in Python,"
            f" class_encode_column({label!r}) numbers the words of a table, and save_to_disk"
            " writes it"
        ) from err
    if len(labels) and labels.min() < 0:
        raise DataError(
            f"{source}: row {int(labels.argmin())} has no label ({label} is {labels.min()})"
        )
    return TableImages(images, labels, source, table._fingerprint, parts, image)


def _class_numbers(splits: dict[str, TableImages]) -> list[str]:
    highest = max(int(images.labels.max(initial=0)) for images in splits.values())
    return [str(label) for label in range(1 + highest)]


def _fingerprint(root: Path) -> str:
    found = sorted(
        (path.relative_to(root), path.stat().st_size) for path in root.rglob("*") if path.is_file()
    )
    return hashlib.sha256("\n".join(f"{path} {size}" for path, size in found).encode()).hexdigest()
