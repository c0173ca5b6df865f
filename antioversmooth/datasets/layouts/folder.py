"""Image folders: root/train/<class>/*, root/val/<class>/*, as the paper's code reads them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from antioversmooth.config import DataConfig
from antioversmooth.datasets import passed_over
from antioversmooth.datasets.images import FileImages, encode_names
from antioversmooth.datasets.missing import missing_data
from antioversmooth.datasets.passed_over import EXTENSIONS, PassedOver, file_kind, litter_kind
from antioversmooth.errors import DataError


def scan_split(config: DataConfig, split: str) -> tuple[list[str], FileImages, list[Path]]:
    """Classes, images, and the folders, whose time stamps show a change.

    The order is that of torchvision's ImageFolder. Each folder is read once; no file is opened.

    Raises:
        DataError: There is no such folder, or it has no class folders.
    """
    root = Path(config.root or "")
    tops = {name: root / (getattr(config, name) or name) for name in dict.fromkeys((split, "val"))}
    # both splits, before a million files of the first are listed
    for top in tops.values():
        if not top.is_dir():
            raise missing_data(config, f"there is no folder {top}")
    walk = _Walk(root, tops[split])
    classes, loose = walk.contents("")
    for name in loose:
        walk.passed_over.add(passed_over.NO_CLASS, os.path.join(walk.prefix, name))
    if not classes:
        raise DataError(
            f"{walk.top} has no class folders; images lie in {walk.top}/<class>/*"
            f"{walk.passed_over.note()}"
        )
    names, labels = [], []
    for label, name in enumerate(classes):
        found = list(walk.images(name))
        names += found
        labels += [label] * len(found)
    images = FileImages(
        walk.top,
        encode_names(names),
        np.array(labels, np.int64),
        passed_over=walk.passed_over,
    )
    return classes, images, walk.depends_on


def require_images(classes: Sequence[str], images: FileImages) -> None:
    """Raises DataError where a class folder is empty."""
    found = set(np.unique(images.labels).tolist())
    empty = [name for label, name in enumerate(classes) if label not in found]
    if empty:
        raise DataError(
            f"{images.root}: no image in {len(empty)} class folder(s): {', '.join(empty[:5])};"
            f" images end in {', '.join(EXTENSIONS)}; remove the folders, or list the other classes"
            f" in data.classes{images.passed_over.note()}"
        )


class _Walk:
    """A walk through the folder of one split; all paths are relative to it.

    Attributes:
        depends_on: Folders that were read, and those in which the target of a link may appear.
    """

    def __init__(self, root: Path, top: Path) -> None:
        self.top = top
        self.prefix = os.path.relpath(top, root)
        self.depends_on: list[Path] = []
        self.passed_over = PassedOver()

    def images(self, folder: str) -> Iterator[str]:
        """Paths of the images in a folder and its subfolders, in torchvision's order."""
        pending, found = [folder], []
        while pending:
            inside = pending.pop()
            folders, images = self.contents(inside)
            pending += [os.path.join(inside, name) for name in folders]
            found.append((inside, images))
        for inside, names in sorted(found):
            yield from (os.path.join(inside, name) for name in names)

    def contents(self, inside: str) -> tuple[list[str], list[str]]:
        """Sorted names of the subfolders and of the images in a folder; counts the rest."""
        folders: list[str] = []
        images: list[str] = []
        self.depends_on.append(self.top / inside)
        with os.scandir(self.top / inside) as entries:
            for entry in entries:
                is_dir = entry.is_dir()
                if is_dir:
                    kind = litter_kind([entry.name]) or self._circular(inside, entry)
                elif entry.is_file():
                    kind = file_kind(entry.name)
                else:
                    kind = litter_kind([entry.name]) or self._no_file(entry)
                if kind:
                    self.passed_over.add(kind, os.path.join(self.prefix, inside, entry.name))
                else:
                    (folders if is_dir else images).append(entry.name)
        return sorted(folders), sorted(images)

    def _circular(self, inside: str, entry: os.DirEntry[str]) -> str | None:
        """Kind of a link to a folder that it lies in, which a walk would follow for ever."""
        if not entry.is_symlink():
            return None
        target = os.path.realpath(entry.path)
        around = [self.top / inside, *(self.top / inside).parents]
        inner = around[: around.index(self.top) + 1]
        circular = any(Path(os.path.realpath(path)).is_relative_to(target) for path in inner)
        return passed_over.CIRCULAR if circular else None

    def _no_file(self, entry: os.DirEntry[str]) -> str:
        if not entry.is_symlink():
            return passed_over.SPECIAL
        target = Path(os.path.realpath(entry.path))
        self.depends_on.append(next(path for path in target.parents if path.exists()))
        return passed_over.DANGLING
