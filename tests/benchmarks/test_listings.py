"""What is timed lists what it should, and the second time from what was kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from antioversmooth.datasets import cache
from benchmarks.listings import QUICK_LOAD, listing_times


def test_both_layouts_are_listed_and_kept_in_a_place_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTIOVERSMOOTH_CACHE", str(tmp_path))
    read, found = cache._read, []
    monkeypatch.setattr(cache, "_read", lambda path: (found.append(kept := read(path)), kept)[1])
    times = listing_times(QUICK_LOAD)
    names = [f"listing 6 images, {layout}" for layout in ("image folder", "two tar files")]
    assert list(times) == [
        f"{name}: {when}" for name in names for when in ("first time", "afterwards")
    ]
    assert [kept is not None for kept in found] == [False, True] * 2
    assert not list(tmp_path.iterdir())
    assert os.environ["ANTIOVERSMOOTH_CACHE"] == str(tmp_path)
