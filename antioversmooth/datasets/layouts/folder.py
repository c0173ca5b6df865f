"""Image folders: root/train/<class>/*, root/val/<class>/*, as the paper's code reads them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from antioversmooth.config import DataConfig
from antioversmooth.datasets.images import EXTENSIONS, FileImages, encode_names, is_image
from antioversmooth.datasets.missing import missing_data
from antioversmooth.errors import DataError


def scan_split(config: DataConfig, split: str) -> tuple[list[str], FileImages, list[Path]]:
    """Classes, images, and the folders, whose time stamps show a change.

    The order is that of torchvision's ImageFolder. Each folder is read once; no file is opened.

    Raises:
        DataError: There is no such folder, or a class is empty.
    """
    root = Path(config.root or "")
    tops = {name: root / (getattr(config, name) or name) for name in dict.fromkeys((split, "val"))}
    # both splits, before a million files of the first are listed
    for top in tops.values():
        if not top.is_dir():
            raise missing_data(config, f"there is no folder {top}")
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
    return classes, FileImages(top, encode_names(names), np.array(labels, np.int64)), folders


def _walk(folder: Path, folders: list[Path]) -> Iterator[str]:
    """Paths of the images in a folder and its subfolders, in torchvision's order.

    Args:
        folders: Every folder that is read is appended.
    """
    pending, found = [""], []
    while pending:
        inside = pending.pop()
        folders.append(folder / inside)
        entries = list(os.scandir(folder / inside))
        pending += [os.path.join(inside, entry.name) for entry in entries if entry.is_dir()]
        images = [entry.name for entry in entries if is_image(entry.name) and not entry.is_dir()]
        found.append((inside, sorted(images)))
    for inside, names in sorted(found):
        yield from (os.path.join(inside, name) for name in names)
