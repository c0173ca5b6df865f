"""root/train/<class>/*, root/val/<class>/*: what the README of the paper's code asks for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from antioversmooth.config import DataConfig
from antioversmooth.datasets.images import EXTENSIONS, Stored, is_image, packed
from antioversmooth.datasets.missing import missing
from antioversmooth.errors import DataError


def scan(config: DataConfig, split: str) -> tuple[list[str], Stored, list[Path]]:
    """Classes, images, and the folders that say whether anything has changed.

    Classes and images in the order of torchvision's ImageFolder; a folder is read once, and no file
    is looked at.

    Raises:
        DataError: There is no such folder, or a class is empty.
    """
    tops = {
        name: Path(config.root or "") / (getattr(config, name) or name) for name in ("train", "val")
    }
    # both splits, before a million files of the first are listed
    for top in tops.values():
        if not top.is_dir():
            raise missing(config, f"there is no folder {top}")
    top = tops[split]
    classes = sorted(entry.name for entry in os.scandir(top) if entry.is_dir())
    if not classes:
        raise DataError(f"{top} has no class folders; images lie in {top}/<class>/*")
    folders, names, labels, empty = [top], [], [], []
    for label, name in enumerate(classes):
        found = list(_walk(top / name, folders))
        names += [os.path.join(name, inside) for inside in found]
        labels += [label] * len(found)
        empty += [] if found else [name]
    if empty:
        raise DataError(
            f"{top}: no image in {len(empty)} class folder(s): {', '.join(empty[:5])}; images end"
            f" in {', '.join(EXTENSIONS)}"
        )
    return classes, Stored(top, packed(names), np.array(labels, np.int64)), folders


def _walk(folder: Path, folders: list[Path]) -> Iterator[str]:
    """Images under a folder, by their path in it; folders in the order of their paths, as
    torchvision sorts them."""
    waiting, found = [""], []
    while waiting:
        inside = waiting.pop()
        folders.append(folder / inside)
        entries = list(os.scandir(folder / inside))
        waiting += [os.path.join(inside, entry.name) for entry in entries if entry.is_dir()]
        found.append(
            (inside, sorted(e.name for e in entries if is_image(e.name) and not e.is_dir()))
        )
    for inside, names in sorted(found):
        yield from (os.path.join(inside, name) for name in names)
