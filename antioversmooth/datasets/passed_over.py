"""Contents of a data set that are none of its images, counted by kind.

Names decide: hidden files, and the folders that systems and editors leave, are no images and no
classes in any layout. Nothing is passed over without being counted here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypedDict

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Extensions of image files, in lower case; the same as those of torchvision's ImageFolder."""

HIDDEN = "hidden"
APPLE_DOUBLE = "AppleDouble (._*)"
SYSTEM = "left by a system"
METADATA = "metadata of shards (__*__)"
NO_ENDING = "without an ending"
DANGLING = "link(s) that lead nowhere"
CIRCULAR = "link(s) to a folder around them"
SPECIAL = "special file(s)"
NO_CLASS = "in no class folder"
BESIDE = "folder(s) beside tar files"
EMPTY = "empty folder(s)"
REPLACED = "replaced by a later member of the same name"

NEVER_IMAGES = {HIDDEN, APPLE_DOUBLE, SYSTEM, METADATA}
"""Kinds that are never images, even where their names end like those of images."""
SYSTEM_NAMES = {
    "__macosx", "@eadir", "#recycle", "#snapshot", "lost+found", "$recycle.bin",
    "system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r",
}  # fmt: skip
"""Files and folders of macOS, Windows, ext4, Synology and QNAP, in lower case."""
LONGEST_ENDING = 8
"""Characters from which an ending is taken for a part of the name."""
NUM_EXAMPLES = 3
NUM_KINDS = 8
"""Kinds that messages name, the most frequent first."""


class Kind(TypedDict):
    """Contents of one kind."""

    count: int
    examples: list[str]
    """The first paths, at most `NUM_EXAMPLES`."""


class PassedOver(dict[str, Kind]):
    """Contents that were passed over, by kind. JSON holds it as it is."""

    def add(self, kind: str, path: str) -> None:
        """Counts a path."""
        self._add(kind, 1, [path])

    def add_all(self, other: PassedOver) -> None:
        """Adds all that another one counts."""
        for kind, found in other.items():
            self._add(kind, found["count"], found["examples"])

    def _add(self, kind: str, count: int, examples: list[str]) -> None:
        found = self.setdefault(kind, Kind(count=0, examples=[]))
        found["count"] += count
        found["examples"] += examples[: NUM_EXAMPLES - len(found["examples"])]

    def may_hold_images(self) -> bool:
        """Whether some of it may belong to the data set."""
        return not NEVER_IMAGES.issuperset(self)

    def note(self) -> str:
        """A part of a message; empty where nothing was passed over."""
        return f"; passed over: {self}" if self else ""

    def __str__(self) -> str:
        """One line, as `4 .jfif (train/cat/1.jfif, ...), 1 hidden (train/.DS_Store)`."""
        kinds = sorted(self.items(), key=lambda item: -item[1]["count"])
        parts = [_describe(kind, found) for kind, found in kinds[:NUM_KINDS]]
        rest = sum(found["count"] for _, found in kinds[NUM_KINDS:])
        return ", ".join([*parts, *([f"{rest} of other kinds"] if rest else [])])


def _describe(kind: str, found: Kind) -> str:
    more = ", ..." if found["count"] > len(found["examples"]) else ""
    return f"{found['count']} {kind} ({', '.join(found['examples'])}{more})"


def litter_kind(names: Iterable[str]) -> str | None:
    """Kind of a path that systems and editors leave behind; None for all others.

    Args:
        names: The names of its folders and its own; one of them decides.
    """
    for name in names:
        if name.startswith("._"):
            return APPLE_DOUBLE
        if name.startswith(".") and name not in (".", ".."):
            return HIDDEN
        if name.lower() in SYSTEM_NAMES:
            return SYSTEM
    return None


def file_kind(path: str) -> str | None:
    """Kind of a file that is no image by its path; None for an image."""
    if (kind := litter_kind(path.split("/"))) or path.lower().endswith(EXTENSIONS):
        return kind
    ending = os.path.splitext(path)[1].lower()
    return ending if ending[1:].isalnum() and len(ending) <= LONGEST_ENDING else NO_ENDING
