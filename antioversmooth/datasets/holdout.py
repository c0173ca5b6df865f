"""A validation split of a folder that has none, as links in a new folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

from antioversmooth import files
from antioversmooth.config import DataConfig, DataSource
from antioversmooth.datasets.images import FileImages
from antioversmooth.datasets.layouts import folder
from antioversmooth.datasets.recognition import class_folders
from antioversmooth.errors import DataError, and_more

SHARE = 5
"""One image of so many is held out."""


def hold_out(path: Path, target: Path) -> None:
    """Writes train/<class>/ and val/<class>/ below `target`, links to the images of `path`.

    A fifth of each class is held out, at least one image. The sha256 of an image's content orders
    its class, so the choice depends on neither names nor time. Equal images are on one side; those
    of several classes are training images. The folder is written whole or not at all.

    Raises:
        DataError: `path` has no class folders or has validation images already, `target` is there
            or in `path`, or a class has no image for one of the sides.
    """
    top = class_folders(path)
    if target.resolve().is_relative_to(path.resolve()):
        raise DataError(f"--split {target}: is in {path}, and would change it; name another folder")
    if os.path.lexists(target):
        raise DataError(
            f"--split {target}: it is there already, and is left as it is; name a new folder, or"
            f" look at it with `antioversmooth data {target}`"
        )
    classes, images = _listed(top)
    if len(classes) < 2:
        raise DataError(
            f"{top} has the single class folder {classes[0]}: name the folder that holds the"
            " folders of all classes"
        )
    sides = _sides(classes, images)
    target.parent.mkdir(parents=True, exist_ok=True)
    # beside the target, which it becomes by one rename
    with TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as place:
        folder = Path(place) / target.name
        for split, chosen in sides.items():
            for file in chosen:
                link = folder / split / file.relative_to(images.root)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(os.path.realpath(file))
        folder.rename(target)


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


def _sides(classes: Sequence[str], images: FileImages) -> dict[str, list[Path]]:
    """The files on each side; files of one content are on one of them."""
    contents: list[dict[str, list[Path]]] = [{} for _ in classes]
    for index, label in enumerate(images.labels.tolist()):
        file = Path(images.name(index))
        contents[label].setdefault(files.sha256(file), []).append(file)
    num_classes = Counter(chain.from_iterable(contents))
    sides: dict[str, list[Path]] = {"train": [], "val": []}
    problems = []
    for name, found in zip(classes, contents, strict=True):
        own = sorted(digest for digest in found if num_classes[digest] == 1)
        if len(found) < 2 or not own:
            problems.append(f"class {name} has {_too_few(found)}")
        held_out = set(own[: max(1, round(len(found) / SHARE))])
        for digest, same in sorted(found.items()):
            sides["val" if digest in held_out else "train"] += same
    if problems:
        raise DataError(
            f"{and_more(problems, 5)}; each side needs an image of each class that no other class"
            " has: add images, or take the class away"
        )
    return sides


def _too_few(contents: Mapping[str, Sequence[Path]]) -> str:
    """The images of a class that cannot be divided, in words."""
    count = sum(map(len, contents.values()))
    if count == 1:
        return "a single image"
    return f"{count} images, all " + ("the same" if len(contents) == 1 else "in other classes, too")
