"""A loading process uses the memory of one image for the next."""

from __future__ import annotations

import platform
import resource

import numpy as np
import pytest

from antioversmooth.training.data.memory import reuse_memory

IMAGES, BYTES = 50, 2_000_000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_an_image_needs_no_new_pages_once_another_is_freed() -> None:
    reuse_memory()
    decode_and_resize()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(IMAGES):
        decode_and_resize()
    new_pages = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert new_pages * resource.getpagesize() < IMAGES * BYTES / 10


def decode_and_resize() -> None:
    """Holds three arrays at a time."""
    image = np.ones(BYTES, np.uint8)
    crop = image + np.uint8(1)
    np.add(crop, image)
