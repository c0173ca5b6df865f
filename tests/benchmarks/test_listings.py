"""The timed listings are those of both layouts, the second from the cache."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from antioversmooth.datasets import cache
from benchmarks.listings import QUICK_LOAD, listing_times


def test_both_layouts_are_listed_and_cached_in_a_folder_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTIOVERSMOOTH_CACHE", str(tmp_path))
    read, cached = cache.read, []
    monkeypatch.setattr(cache, "read", lambda key: (cached.append(hit := read(key)), hit)[1])
    times = listing_times(QUICK_LOAD)
    names = [f"listing 6 images, {layout}" for layout in ("image folder", "two tar files")]
    assert list(times) == [
        f"{name}: {when}" for name in names for when in ("first time", "afterwards")
    ]
    assert [hit is not None for hit in cached] == [False, True] * 2
    assert not list(tmp_path.iterdir())
    assert os.environ["ANTIOVERSMOOTH_CACHE"] == str(tmp_path)
