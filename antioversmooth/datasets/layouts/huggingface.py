"""Hugging Face data sets on disk: written by `save_to_disk`, or a folder for `load_dataset`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
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
    parts: Sequence[Part]
    """The rows that the table has of which splits."""
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

    The sum is also over the rows that were chosen, where they are not those of whole splits.

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
    stored = _tables(root)
    parts = {split: _parts(config, split, stored) for split in SPLITS}
    tables = {split: _rows(stored, chosen) for split, chosen in parts.items()}
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
        splits[split] = _images(table, image, label, f"{root}:{split}", parts[split])
    names = getattr(tables["train"].features[label], "names", None)
    whole = all(chosen in ([rows] for rows in _whole(stored)) for chosen in parts.values())
    fingerprint = _fingerprint(root, {} if whole else parts)
    return names or _class_numbers(splits), splits, fingerprint


def _only_column(table: Any, usual: str, kind: str) -> str:
    """The column of the usual name; else the only one of the kind, by its class in the library."""
    found = [name for name, feature in table.features.items() if type(feature).__name__ == kind]
    return found[0] if usual not in table.column_names and len(found) == 1 else usual


def _tables(root: Path) -> Mapping[str, Any]:
    """The table of each split."""
    # takes a second, and imports pandas
    import datasets

    datasets.disable_progress_bars()
    folders = [mark.parent for mark in sorted(root.glob("*/state.json"))]
    try:
        if (root / "dataset_dict.json").is_file():
            return dict(datasets.load_from_disk(str(root)))
        if (root / "state.json").is_file():
            # one table, of all images
            return dict.fromkeys(SPLITS.values(), datasets.load_from_disk(str(root)))
        if folders:
            return {folder.name: datasets.load_from_disk(str(folder)) for folder in folders}
        return dict(datasets.load_dataset(str(root)))
    except MemoryError:
        raise
    except Exception as err:
        # of many types, for files that are missing, foreign, empty or torn
        cause = err.__cause__ or err
        raise DataError(f"{root}: no Hugging Face data set ({cause})") from err


def _parts(config: DataConfig, split: str, tables: Mapping[str, Any]) -> list[Part]:
    """The rows that `data.train` or `data.val` chooses: of a split, or of slices and sums.

    Of splits that are one table, the first one stands for all.

    Raises:
        DataError: There is no such split, or the text is no slice.
    """
    import datasets

    place = getattr(config, split) or SPLITS[split]
    first = {name: next(n for n in tables if tables[n] is tables[name]) for name in tables}
    if place in tables:
        # also a name that no slice could have
        return [(first[place], 0, len(tables[place]))]
    try:
        lengths = {name: len(table) for name, table in tables.items()}
        found = datasets.ReadInstruction.from_spec(place).to_absolute(lengths)
    except ValueError as err:
        raise DataError(
            f"data.{split}: {config.root} has no split {place!r}; it has {and_more([*tables], 5)},"
            f" and slices and sums of these, as {next(iter(tables))}[:80%]"
        ) from err
    return [(first[part.splitname], part.from_, max(part.from_, part.to)) for part in found]


def _whole(tables: Mapping[str, Any]) -> list[Part]:
    return [(name, 0, len(table)) for name, table in tables.items()]


def _rows(tables: Mapping[str, Any], parts: Sequence[Part]) -> Any:
    """The table of some rows."""
    import datasets

    whole = _whole(tables)
    found = [
        tables[part[0]] if part in whole else tables[part[0]].select(range(*part[1:]))
        for part in parts
    ]
    return found[0] if len(found) == 1 else datasets.concatenate_datasets(found)


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


def _fingerprint(root: Path, parts: Mapping[str, Sequence[Part]]) -> str:
    """sha256 over names and sizes of the files, and over the parts of each split."""
    found = sorted(
        (path.relative_to(root), path.stat().st_size) for path in root.rglob("*") if path.is_file()
    )
    lines = [f"{path} {size}" for path, size in found]
    lines += [
        f"{split} {name}[{first}:{end}]" for split in parts for name, first, end in parts[split]
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
