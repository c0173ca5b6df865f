"""Counts how often files are opened."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_counting: list[tuple[Path, Counter[str]]] = []


def _count(event: str, arguments: tuple[object, ...]) -> None:
    if event != "open" or not _counting or not isinstance(arguments[0], str):
        return
    for folder, counts in _counting:
        path = Path(arguments[0])
        if path.is_relative_to(folder):
            counts[str(path.relative_to(folder))] += 1


# builtins.open, io.open and os.open all raise this event; a hook cannot be removed again
sys.addaudithook(_count)


@contextmanager
def counted_opens(folder: Path) -> Iterator[Counter[str]]:
    """Counts, within the block, how often this process opens each file of a folder."""
    counts: Counter[str] = Counter()
    _counting.append((folder, counts))
    try:
        yield counts
    finally:
        _counting.pop()
