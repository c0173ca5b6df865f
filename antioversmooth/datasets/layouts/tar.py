"""Image folders in tar files: one tar file for a split, one for each class, or a tar of tars.

Labels are those of timm's ReaderImageInTar: the innermost folder or tar file that holds the image.
Unlike there, the order is that of the unpacked folder, and images are read by their byte range:
workers share neither handles nor objects.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from antioversmooth.config import DataConfig
from antioversmooth.datasets.images import FileImages, encode_names, is_image
from antioversmooth.datasets.missing import missing_data
from antioversmooth.errors import DataError


class Member(NamedTuple):
    """A file inside a tar file."""

    name: str
    offset: int
    """First byte of its content, in the outermost file."""
    size: int
    """Bytes of its content."""


def scan_split(config: DataConfig, split: str) -> tuple[list[str], FileImages, list[Path]]:
    """Classes, images, and the tar files.

    Raises:
        DataError: There is no such tar file, it is compressed or broken, or an image in it has no
            class.
    """
    root = Path(config.root or "")
    where = getattr(config, split) or split
    archives = _archives(config, root, where)
    found = []
    for number, archive in enumerate(archives):
        outer = archive.stem if archive.parent == root / where else ""
        for member in members(archive, nested=True):
            if is_image(member.name):
                path = os.path.join(outer, member.name)
                found.append((_class_of(path, archive), path, number, member))
    if not found:
        raise DataError(f"{archives[0]} holds no image")
    found.sort(key=lambda image: image[:2])
    classes = sorted({image[0] for image in found})
    numbers = {name: number for number, name in enumerate(classes)}
    images = FileImages(
        root,
        encode_names([path for _, path, _, _ in found]),
        np.array([numbers[name] for name, *_ in found], np.int64),
        tuple(str(archive.relative_to(root)) for archive in archives),
        np.array([(number, file.offset, file.size) for *_, number, file in found], np.int64),
    )
    return classes, images, archives


def _archives(config: DataConfig, root: Path, where: str) -> list[Path]:
    """Every tar file in root/<where>/, else root/<where>.tar, beside which it may be unpacked."""
    folder, file = root / where, root / f"{where.removesuffix('.tar')}.tar"
    archives = sorted(folder.glob("*.tar"))
    if archives:
        return archives
    if file.is_file():
        return [file]
    if folder.is_dir():
        raise DataError(f"{folder} holds no .tar file")
    raise missing_data(config, f"there is neither {file} nor a folder {folder} with .tar files")


def _class_of(path: str, archive: Path) -> str:
    name = os.path.basename(os.path.dirname(path))
    if name in ("", "."):
        raise DataError(f"{archive}:{path} is in no class folder")
    return name


def members(archive: Path, *, nested: bool = False) -> Iterator[Member]:
    """Every file in a tar file, in its order.

    Args:
        nested: A tar file in it counts as a folder of the same name.

    Raises:
        DataError: It is compressed, torn, or no tar file.
    """
    try:
        with archive.open("rb") as file:
            yield from _members(file, 0, nested=nested)
    except tarfile.TarError as err:
        raise DataError(
            f"{archive}: {err}; a plain tar file is needed, since images are read by their byte"
            " range: gunzip a compressed file, write a torn one again"
        ) from err


def _members(file: IO[bytes], start: int, *, nested: bool) -> Iterator[Member]:
    with tarfile.open(fileobj=file, mode="r:") as archive:
        while (member := archive.next()) is not None:
            # tarfile keeps an object of a kilobyte for each file, and there may be a million
            archive.members = []  # type: ignore[attr-defined]
            if not member.isfile():
                continue
            offset, name = start + member.offset_data, os.path.normpath(member.name)
            if nested and name.endswith(".tar"):
                inner = archive.extractfile(member)
                # never None for a plain file
                assert inner is not None
                folder = name.removesuffix(".tar")
                for inside in _members(inner, offset, nested=True):
                    yield inside._replace(name=os.path.join(folder, inside.name))
            else:
                yield Member(name, offset, member.size)
