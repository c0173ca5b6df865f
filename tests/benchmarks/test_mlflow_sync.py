from __future__ import annotations

from pathlib import Path

from benchmarks.mlflow_sync import AGAIN, FIRST, QUICK_LOAD, sync_times


def test_a_first_sync_and_one_with_nothing_to_do_are_timed(experiments: Path) -> None:
    times = sync_times(experiments.parent, QUICK_LOAD)
    assert list(times) == [f"{FIRST}, CPU", FIRST, f"{AGAIN}, CPU", AGAIN]
    assert all(seconds > 0 for rounds in times.values() for seconds in rounds)
