"""Mistakes in a spec, shown as a compiler shows them: place, message, and the line with a caret."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from antioversmooth.errors import similar

WIDEST = 120
"""Characters of a quoted line; a longer one is cut around its caret."""


@dataclass(frozen=True)
class Place:
    """A stretch of one line of a file, or of an override on the command line."""

    source: str
    """The file as a person would type it, or `command line`."""
    line: int
    """From 1; 0 on the command line."""
    column: int
    """From 1."""
    text: str
    """The whole line, or the whole override."""
    length: int = 1
    """Characters to underline."""

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source

    def named(self) -> str:
        """The place in a note below another one, where it is not quoted."""
        return str(self) if self.line else f"{self.source}, {self.text}"

    def quoted(self) -> str:
        """The line, and carets under the stretch."""
        start = max(0, self.column - WIDEST // 2) if len(self.text) > WIDEST else 0
        shown = "".join(c if c.isprintable() else " " for c in self.text[start : start + WIDEST])
        carets = " " * (self.column - 1 - start) + "^" * max(
            1, min(self.length, len(shown) - self.column + 1 + start)
        )
        number = str(self.line) if self.line else ""
        return f"  {number:>4} | {shown}\n       | {carets}"


@dataclass(frozen=True)
class Problem:
    """One mistake at one place."""

    place: Place
    key: str
    """The dotted key that it is about; may be empty."""
    message: str
    notes: tuple[str, ...] = ()
    """Lines below: the meaning of the key, the place of the other side of a contradiction."""

    def __str__(self) -> str:
        about = f"{self.key}: " if self.key else ""
        notes = [f"       = {note}" for note in self.notes]
        return "\n".join([f"{self.place}: {about}{self.message}", self.place.quoted(), *notes])


def alike(key: str, known: Collection[str]) -> list[str]:
    """Keys that may be meant: misspelt, of the same kind (`batch`: `global_batch`), or alike."""
    same_kind = [name for name in known if key.lower().split("_")[0] in name.split("_")]
    return misspelt(key, known) or same_kind[:3] or similar(key, known)


def misspelt(key: str, known: Collection[str]) -> list[str]:
    """The key from which one differs by a letter."""
    return similar(key, known, 1, cutoff=0.92)
