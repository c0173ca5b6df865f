"""How far a run is, as its directory alone tells it."""

from __future__ import annotations

import time
from enum import Enum

from antioversmooth.runs.directory import Run


class RunState(Enum):
    """What the directory alone says of a run.

    `orchestration.state.Phase` adds what the scheduler knows, `reporting.observe.State` what a
    table's readers ask.
    """

    missing = "missing"
    submitted = "submitted"
    running = "running"
    stopped = "stopped"
    done = "done"


def state(run: Run, *, now: float | None = None) -> RunState:
    """The run's state as its directory tells it: no scheduler is asked.

    `running` means an attempt that has not ended and whose heartbeat is younger than six of its
    periods.
    """
    if run.result() is not None:
        return RunState.done
    attempts = run.attempts()
    if not attempts:
        return RunState.submitted if (run.dir / "intent.json").exists() else RunState.missing
    ended = {r["attempt"] for r in attempts if r.get("event") == "end"}
    newest = max(r["attempt"] for r in attempts)
    if newest in ended:
        return RunState.stopped
    try:
        beat = (run.dir / "heartbeat").stat().st_mtime
    except FileNotFoundError:
        beat = max(r["time"] for r in attempts)
    age = (time.time() if now is None else now) - beat
    return RunState.running if age < 6 * run.experiment.runtime.heartbeat_s else RunState.stopped
