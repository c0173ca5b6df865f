"""A validation split of a folder that has none, as links in a new folder."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from antioversmooth.config import DataConfig, DataSource
from antioversmooth.datasets.images import FileImages
from antioversmooth.datasets.layouts import folder
from antioversmooth.datasets.recognition import class_folders
from antioversmooth.errors import DataError

SHARE = 5
"""One image of so many is held out."""


def hold_out(path: Path, target: Path) -> None:
    """Writes train/<class>/ and val/<class>/ below `target`, links to the images of `path`.

    A fifth of each class is held out, at least one image. The sha256 of an image's content orders
    its class, so the choice depends on neither names nor time, and equal images are on one side.

    Raises:
        DataError: `path` has no class folders or has validation images already, `target` is there,
            or a class has a single image.
    """
    top = class_folders(path) if path.is_dir() else None
    if top is None:
        raise DataError(
            f"--split is for a folder of class folders without validation images; {path} is none"
        )
    if target.exists():
        raise DataError(f"--split {target}: it is there already, and is left as it is")
    classes, images = _listed(top)
    for label, name in enumerate(classes):
        files = [Path(images.name(i)) for i in (images.labels == label).nonzero()[0].tolist()]
        for split, chosen in _halves(name, files).items():
            for file in chosen:
                link = target / split / file.relative_to(images.root)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(os.path.realpath(file))


def _listed(top: Path) -> tuple[list[str], FileImages]:
    config = DataConfig(
        name=top.name,
        source=DataSource.image_folder,
        root=str(top),
        num_classes=2,
        num_train=0,
        num_val=1,
        train=".",
        val=".",
    )
    classes, images, _ = folder.scan_split(config, "train")
    return classes, images


def _halves(name: str, files: list[Path]) -> dict[str, list[Path]]:
    """The files of a class on the two sides; files of one content are on one of them."""
    contents: dict[str, list[Path]] = {}
    for file in files:
        contents.setdefault(hashlib.sha256(file.read_bytes()).hexdigest(), []).append(file)
    if len(contents) < 2:
        raise DataError(
            f"class {name} has a single image, and each side needs one: add images, or take the"
            " class away"
        )
    count = max(1, round(len(contents) / SHARE))
    ordered = [contents[digest] for digest in sorted(contents)]
    sides = {"val": ordered[:count], "train": ordered[count:]}
    return {split: [file for group in side for file in group] for split, side in sides.items()}
