from __future__ import annotations

from collections.abc import Callable

import pytest

from antioversmooth.runs import Run, journal
from antioversmooth.runs.attempts import extend_last_seen
from antioversmooth.runs.result import effort


def test_effort_is_summed_over_attempts_and_a_killed_one_counts_up_to_its_last_record(
    tiny_run: Callable[..., Run],
) -> None:
    run = tiny_run()
    start = {"event": "start", "step": 0}
    journal.append(run.attempts_path, {"time": 100, "attempt": 1, "world_size": 2, **start})
    journal.append(run.metrics_path, {"time": 130, "attempt": 1, "step": 5})
    journal.append(run.attempts_path, {"time": 200, "attempt": 2, "world_size": 4, **start})
    journal.append(
        run.attempts_path, {"time": 260, "attempt": 2, "event": "end", "reason": "completed"}
    )
    found = effort(extend_last_seen(run.attempts(), journal.read(run.metrics_path)), 260)
    assert found["seconds"] == 30 + 60
    assert found["device_hours"] == pytest.approx((30 * 2 + 60 * 4) / 3600)
    assert found["attempts"] == 2
