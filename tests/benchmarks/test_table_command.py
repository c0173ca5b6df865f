from __future__ import annotations

from pathlib import Path

from benchmarks.table_command import QUICK_LOAD, table_times


def test_a_fabricated_table_is_rendered_without_anything_heavy(experiments: Path) -> None:
    times = table_times(experiments.parent, QUICK_LOAD)
    assert list(times) == ["table of 12 runs x 4 epochs", "table of 12 runs x 4 epochs, CPU"]
    assert all(seconds > 0 for rounds in times.values() for seconds in rounds)
