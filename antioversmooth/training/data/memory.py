"""Memory of a process that makes views: without what its parent had free, and what one image frees,
the next one uses."""

from __future__ import annotations

import ctypes
from contextlib import suppress

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
"""Parameters of glibc's `mallopt`."""
MOST_BYTES = 2**25
"""Largest piece that is used again, glibc's limit: an image of 11 megapixels."""
MOST_FREE_BYTES = 2**26
"""Free bytes at the end of the heap above which the system gets them back."""


def reuse_memory() -> None:
    """Has this process use the memory of freed images again, where its C library is glibc.

    glibc returns a piece of the size of an image to the system, which clears each of its pages
    before it is used again: a quarter of the time of a decode.
    """
    _of_glibc("mallopt", MMAP_THRESHOLD, MOST_BYTES)
    _of_glibc("mallopt", TRIM_THRESHOLD, MOST_FREE_BYTES)


def return_free_memory() -> None:
    """Returns free memory of this process to the system, where its C library is glibc.

    A new process begins with a copy of all memory of its parent, free memory included: where the
    parent uses that again, as each step of a training does, both processes have it.
    """
    _of_glibc("malloc_trim", 0)


def _of_glibc(function: str, *values: int) -> None:
    """Calls a function that musl, macOS and Windows lack."""
    with suppress(AttributeError, OSError, TypeError):
        getattr(ctypes.CDLL(None), function)(*values)
