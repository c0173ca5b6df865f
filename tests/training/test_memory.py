"""A loading process uses the memory of one image for the next, and none that others have free."""

from __future__ import annotations

import platform
import resource
from collections.abc import Iterable
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch.utils.data import DataLoader

from antioversmooth.training.data.loading import _collate
from antioversmooth.training.data.memory import return_free_memory, reuse_memory

IMAGES, BYTES = 50, 2_000_000
PIECES, PIECE = 1000, 100_000

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")


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


def test_free_memory_between_pieces_in_use_goes_back_to_the_system() -> None:
    pieces = [np.ones(PIECE, np.uint8) for _ in range(PIECES)]
    process = psutil.Process()
    del pieces[::2]
    before = process.memory_info().rss
    return_free_memory()
    returned = before - process.memory_info().rss
    assert returned > PIECES * PIECE / 4


def test_a_loading_process_makes_a_batch_in_the_memory_that_it_shares() -> None:
    indices: Any = range(2)
    loader: Iterable[bool] = DataLoader(indices, num_workers=1, collate_fn=_is_shared)
    assert list(loader) == [True, True]


def _is_shared(indices: list[int]) -> bool:
    """Whether a batch is shared before it is sent."""
    views = [(torch.zeros(3, 8, 8, dtype=torch.uint8), 0, 0) for _ in indices]
    return bool(_collate(views).images.is_shared())
