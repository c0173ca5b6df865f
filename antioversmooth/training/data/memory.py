"""Memory of a process that makes views: what one image frees, the next one uses."""

from __future__ import annotations

import ctypes

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
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        # musl, macOS and Windows
        return
    mallopt(MMAP_THRESHOLD, MOST_BYTES)
    mallopt(TRIM_THRESHOLD, MOST_FREE_BYTES)
