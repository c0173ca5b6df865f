"""Image folders in tar files: one tar file for a split, one for each class, or a tar of tars.

Labels are those of timm's ReaderImageInTar: the innermost folder or tar file that holds the image.
Unlike there, the order is that of the unpacked folder, links and members that were appended again
count as when they are unpacked, and images are read by their byte range: workers share neither
handles nor objects.
"""

from __future__ import annotations

import glob
import os
import tarfile
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import IO, Any, NamedTuple

import numpy as np

from antioversmooth.config import DataConfig
from antioversmooth.datasets import passed_over
from antioversmooth.datasets.images import FileImages, encode_names
from antioversmooth.datasets.missing import missing_data
from antioversmooth.datasets.passed_over import PassedOver, file_kind, litter_kind
from antioversmooth.errors import DataError

MAX_LINKS = 40
"""Links of a path that are followed, as Linux does; more of them lead in a circle."""


class Member(NamedTuple):
    """A file inside a tar file."""

    name: str
    offset: int
    """First byte of its content, in the outermost file."""
    size: int
    """Bytes of its content."""


def scan_split(config: DataConfig, split: str) -> tuple[list[str], FileImages, list[Path]]:
    """Classes, images, and the tar files with their folders, whose time stamps show a change.

    Raises:
        DataError: There is no such tar file, it is compressed or broken, or an image in it has no
            class.
    """
    root = Path(config.root or "")
    where = getattr(config, split) or split
    passed = PassedOver()
    archives = _archives(config, root, where, passed)
    found = []
    for number, archive in enumerate(archives):
        outer = archive.stem if archive.parent == root / where else ""
        for member in members(archive, root, passed, nested=True):
            path = os.path.join(outer, member.name)
            if kind := file_kind(path):
                passed.add(kind, f"{archive.relative_to(root)}:{member.name}")
            else:
                found.append((_class_of(path, archive), path, number, member))
    if not found:
        raise DataError(f"{archives[0]} holds no image{passed.note()}")
    found.sort(key=lambda image: image[:2])
    classes = sorted({image[0] for image in found})
    numbers = {name: number for number, name in enumerate(classes)}
    images = FileImages(
        root,
        encode_names([path for _, path, _, _ in found]),
        np.array([numbers[name] for name, *_ in found], np.int64),
        tuple(str(archive.relative_to(root)) for archive in archives),
        np.array([(number, file.offset, file.size) for *_, number, file in found], np.int64),
        passed_over=passed,
    )
    return classes, images, [root, archives[0].parent, *archives]


def _archives(config: DataConfig, root: Path, where: str, passed: PassedOver) -> list[Path]:
    """Every tar file in root/<where>/, else root/<where>.tar, beside which it may be unpacked."""
    folder, file = root / where, root / f"{where.removesuffix('.tar')}.tar"
    beside = sorted(folder.iterdir()) if folder.is_dir() else []
    archives = [path for path in beside if path.suffix == ".tar" and not litter_kind([path.name])]
    if archives:
        for path in beside:
            if path not in archives:
                kind = passed_over.BESIDE if path.is_dir() else file_kind(path.name)
                kind = litter_kind([path.name]) or kind or passed_over.NO_CLASS
                passed.add(kind, str(path.relative_to(root)))
        return archives
    if file.is_file():
        return [file]
    if folder.is_dir():
        raise DataError(f"{folder} holds no .tar file")
    compressed = sorted(path.name for path in root.glob(f"{glob.escape(file.stem)}.*"))
    instead = f", only {' and '.join(compressed)}: unpack it" if compressed else ""
    raise missing_data(
        config, f"there is neither {file} nor a folder {folder} with .tar files{instead}"
    )


def _class_of(path: str, archive: Path) -> str:
    name = os.path.basename(os.path.dirname(path))
    if name in ("", "."):
        raise DataError(f"{archive}:{path} is in no class folder")
    return name


_DAMAGED = (tarfile.TarError, EOFError, ValueError, OverflowError)
"""Errors of tarfile where a header makes no sense."""


def members(
    archive: Path, root: Path, passed: PassedOver, *, nested: bool = False
) -> Iterator[Member]:
    """Every file in a tar file, in its order; links to files and folders count as their targets.

    Args:
        root: Folder of the data set, for the names of what is passed over.
        passed: Counts links that lead nowhere, members that others replace, and special files.
        nested: A tar file in it counts as a folder of the same name.

    Raises:
        DataError: It is compressed, torn, damaged, or no tar file.
    """
    try:
        with archive.open("rb") as file:
            yield from _members(file, f"{archive.relative_to(root)}:", passed, nested=nested)
    except _DAMAGED as err:
        raise DataError(
            f"{archive}: {err}; a plain tar file is needed, since images are read by their byte"
            " range: gunzip a compressed file, write a torn one again"
        ) from err


def _members(file: IO[bytes], prefix: str, passed: PassedOver, *, nested: bool) -> Iterator[Member]:
    """As `members`.

    Args:
        prefix: Begins the names of what is passed over.
    """
    with tarfile.open(fileobj=file, mode="r:") as archive:
        contents = _Contents(prefix, passed)
        while (header := archive.next()) is not None:
            # tarfile keeps an object of a kilobyte for each file, and there may be a million
            archive.members = []  # type: ignore[attr-defined]
            contents.add(header)
        _check_end(file, archive.offset)
        for name, (offset, size) in contents.resolved().items():
            if nested and name.endswith(".tar") and not litter_kind(name.split("/")):
                header = tarfile.TarInfo(name)
                header.offset_data, header.size = offset, size
                inner = archive.extractfile(header)
                # never None for a plain file
                assert inner is not None
                folder = name.removesuffix(".tar")
                try:
                    for inside in _members(inner, f"{prefix}{name}:", passed, nested=True):
                        path = os.path.join(folder, inside.name)
                        yield Member(path, offset + inside.offset, inside.size)
                except _DAMAGED as err:
                    raise tarfile.ReadError(f"{name} in it: {err}") from err
            else:
                yield Member(name, offset, size)


def _check_end(file: IO[bytes], offset: int) -> None:
    """Raises tarfile.ReadError unless the end-of-archive blocks, and nothing else, follow.

    tarfile itself stops without a word at a header that is cut off or damaged.
    """
    file.seek(offset)
    end = file.read(tarfile.BLOCKSIZE)
    if len(end) < tarfile.BLOCKSIZE or end.strip(b"\0"):
        raise tarfile.ReadError(f"it is cut off or damaged at byte {offset:,}: no end of archive")
    while block := file.read(1 << 20):
        if block.strip(b"\0"):
            raise tarfile.ReadError(
                f"its end at byte {offset:,} is followed by more: damaged, or several tar files in"
                " one (join them with tar --concatenate)"
            )


class _Contents:
    """Files and links of one tar file, as they lie in a folder that it is unpacked to.

    Args:
        prefix: Begins the names of what is passed over.
    """

    def __init__(self, prefix: str, passed: PassedOver) -> None:
        self._prefix = prefix
        self._passed = passed
        self._entries: dict[str, tuple[int, int] | str] = {}
        """By name: first byte and size of a file, or the path that a link leads to from the top."""
        self._folders: set[str] = set()

    def add(self, header: tarfile.TarInfo) -> None:
        """Adds a member; it takes the place of one of the same name, as when it is unpacked."""
        name = os.path.normpath(header.name)
        if header.isdir():
            self._folders.add(name)
            return
        if header.isfile():
            entry: tuple[int, int] | str = (header.offset_data, _plain_size(header))
        elif header.issym():
            target = os.path.join(os.path.dirname(name), header.linkname)
            entry = os.path.normpath(target)
        elif header.islnk():
            # another name of the file as it is at this place of the tar file
            target = os.path.normpath(header.linkname)
            entry = self._entries.get(target, target)
        else:
            self._pass_over(passed_over.SPECIAL, name)
            return
        # GNU tar writes a link to itself of a file that it is given twice
        if entry != name and self._entries.get(name, entry) != entry:
            self._pass_over(passed_over.REPLACED, name)
        self._entries[name] = self._entries.get(name, entry) if entry == name else entry

    def resolved(self) -> dict[str, tuple[int, int]]:
        """First byte and size of each file by name, in order, also under the names of links.

        Counts the links that lead to no file, and the folders without files.
        """
        found: dict[str, tuple[int, int]] = {}
        links = any(isinstance(entry, str) for entry in self._entries.values())
        names = sorted(self._entries) if links else []
        for name, entry in self._entries.items():
            if isinstance(entry, str):
                self._resolve(name, names, found)
            else:
                found[name] = entry
        used = {os.path.dirname(name) for name in found}
        used.update(str(around) for folder in tuple(used) for around in PurePath(folder).parents)
        for folder in sorted(self._folders - used):
            self._pass_over(passed_over.EMPTY, folder)
        return found

    def _resolve(self, link: str, names: list[str], found: dict[str, tuple[int, int]]) -> None:
        """Adds the file, or all files of the folder, that a link leads to under its own name.

        Args:
            names: All names, sorted.
        """
        pending = [link]
        while pending:
            link = pending.pop()
            target = self._follow(link)
            entry, inside = self._entries.get(target), _below(target, names)
            if isinstance(entry, tuple):
                found[link] = entry
            elif self._is_around(link, target):
                self._pass_over(passed_over.CIRCULAR, link)
            elif inside:
                pending += [link + name[len(target) :] for name in reversed(inside)]
            else:
                self._pass_over(passed_over.DANGLING, link)

    def _follow(self, path: str) -> str:
        """The path that a path leads to behind all links; any of them if they form a circle."""
        for _ in range(MAX_LINKS):
            parts = path.split("/")
            heads = ("/".join(parts[:end]) for end in range(1, len(parts) + 1))
            links = ((head, self._entries.get(head)) for head in heads)
            head, target = next(((h, t) for h, t in links if isinstance(t, str)), (path, None))
            if target is None:
                break
            path = os.path.normpath(target + path[len(head) :])
        return path

    def _is_around(self, link: str, target: str) -> bool:
        """Whether a link leads to a folder that it lies in, at its own place or behind links."""
        around = (self._follow(str(folder)) for folder in PurePath(link).parents)
        return target == "." or any(f"{folder}/".startswith(f"{target}/") for folder in around)

    def _pass_over(self, kind: str, name: str) -> None:
        self._passed.add(litter_kind(name.split("/")) or kind, self._prefix + name)


def _below(folder: str, names: list[str]) -> list[str]:
    """Those of the sorted names that lie in a folder or its subfolders."""
    # "0" is the character after "/"
    return names[bisect_left(names, f"{folder}/") : bisect_left(names, f"{folder}0")]


def _plain_size(header: tarfile.TarInfo) -> int:
    """Bytes of a file that lies in one piece.

    Raises:
        tarfile.ReadError: Its zeros are left out.
    """
    # pairs of first byte and size; typeshed says bytes
    pieces: Any = header.sparse
    if pieces is not None and sum(size for _, size in pieces) < header.size:
        raise tarfile.ReadError(f"{header.name} is a sparse file, with its zeros left out")
    return header.size
