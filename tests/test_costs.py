"""Times of work: an attempt ends at its last sign of life, whoever records its end, and when."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import completed
import pytest

from antioversmooth.orchestration.monitor.status import statuses
from antioversmooth.runs import Run, RunRecord, journal
from antioversmooth.runs.attempts import EndReason

MakeRun = Callable[..., Run]
HOUR = 3600.0
BEGAN = round(time.time()) - 24 * HOUR
"""Start of the attempt, a day ago."""


@pytest.fixture
def killed(make_run: MakeRun) -> Run:
    """A run of two processes that was killed a day ago, 60 s after its start."""
    run = make_run("deit_s12")
    start = {"time": BEGAN, "attempt": 1, "event": "start", "step": 0, "world_size": 2}
    journal.append(run.attempts_path, start)
    journal.append(run.metrics_path, {"time": BEGAN + 60, "attempt": 1, "step": 5})
    return run


def beat(run: Run, at: float) -> None:
    (run.dir / "heartbeat").touch()
    os.utime(run.dir / "heartbeat", (at, at))


SIGNS = {
    "no heartbeat": (None, 60.0),
    "a heartbeat after the last record": (BEGAN + 90, 90.0),
    "a heartbeat before the last record": (BEGAN + 30, 60.0),
    "a heartbeat of an earlier attempt": (BEGAN - HOUR, 60.0),
}
"""Time of the heartbeat, and the seconds that count."""


@pytest.mark.parametrize(("heartbeat", "seconds"), SIGNS.values(), ids=SIGNS)
def test_an_end_that_is_recorded_later_is_at_the_last_sign_of_life(
    killed: Run, heartbeat: float | None, seconds: float
) -> None:
    if heartbeat is not None:
        beat(killed, heartbeat)
    (before,) = RunRecord.read(killed).attempts_with_cost
    assert killed.close_attempt(EndReason.crash, "ended without an end record")
    (attempt,) = killed.attempts()
    assert attempt.seconds == pytest.approx(seconds, abs=1e-2)
    assert attempt.device_seconds == pytest.approx(2 * seconds, abs=1e-2)
    assert before.seconds == pytest.approx(attempt.seconds, abs=1e-2)


def test_a_heartbeat_of_tomorrow_counts_as_now(killed: Run) -> None:
    """The clock of a file server may be ahead."""
    beat(killed, time.time() + 24 * HOUR)
    killed.close_attempt(EndReason.crash, "")
    (attempt,) = killed.attempts()
    assert attempt.ended is not None
    # journals round times to milliseconds
    assert attempt.ended <= time.time() + 1e-3


def test_a_better_reason_does_not_move_the_end(killed: Run) -> None:
    end = {"time": BEGAN + 70, "attempt": 1, "event": "end", "reason": "crash", "step": 5}
    journal.append(killed.attempts_path, end)
    beat(killed, BEGAN + 10 * HOUR)
    instead_of = {EndReason.crash}
    assert killed.close_attempt(EndReason.out_of_memory, "too big", instead_of=instead_of)
    (attempt,) = killed.attempts()
    assert attempt.reason is EndReason.out_of_memory
    assert attempt.seconds == pytest.approx(70, abs=1e-2)


def test_the_heartbeat_of_the_newest_attempt_is_none_of_the_one_before(killed: Run) -> None:
    start = {"time": BEGAN + HOUR, "attempt": 2, "event": "start", "step": 0, "world_size": 2}
    journal.append(killed.attempts_path, start)
    beat(killed, BEGAN + HOUR + 30)
    killed.close_attempt(EndReason.crash, "", number=1)
    first, second = RunRecord.read(killed).attempts_with_cost
    assert (first.seconds, second.seconds) == pytest.approx((60, 30), abs=1e-2)


def test_a_clock_that_was_set_back_makes_no_negative_cost(killed: Run) -> None:
    end = {"time": BEGAN - 5, "attempt": 1, "event": "end", "reason": "crash", "step": 5}
    journal.append(killed.attempts_path, end)
    assert killed.attempts()[0].device_seconds == 0


def test_status_shows_the_device_hours_of_the_result(killed: Run) -> None:
    end = {"time": BEGAN + 90, "attempt": 1, "event": "end", "reason": "completed", "step": 5}
    journal.append(killed.attempts_path, end)
    completed.finish(killed, world_size=2, device_hours=170 / 3600)
    (status,) = statuses([killed], [])
    assert status["device_hours_used"] == 170 / 3600
