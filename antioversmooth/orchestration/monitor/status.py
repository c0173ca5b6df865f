"""What `status` tells of each run: where it stands on its back end, how far it is, what it has cost
and will cost."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from antioversmooth.config import Table
from antioversmooth.orchestration import estimate
from antioversmooth.orchestration.monitor import progress
from antioversmooth.orchestration.monitor.state import Phase, State, is_on_slurm, states
from antioversmooth.orchestration.slurm import jobs
from antioversmooth.runs import Run, explain_identity_change, journal
from antioversmooth.runs.journal import Record

Status = dict[str, Any]
"""Plain values: what `status --json` prints for a run. Hours are devices times hours, accuracies in
percent."""


def statuses(
    runs: Sequence[Run], tables: Sequence[Table], *, now: float | None = None
) -> list[Status]:
    """One value for each run, for one squeue and at most one sacct.

    Args:
        tables: Where the paper's accuracies stand.
        now: Seconds since 1970; default: the clock.
    """
    now = time.time() if now is None else now
    paper = {row.experiment: row.paper.top1 for table in tables for row in table.rows if row.paper}
    distrusted = {run.id: problem for run in runs if (problem := run.invalid_result_reason())}
    known = states([run for run in runs if run.id not in distrusted], now=now)
    found = []
    for run in runs:
        if run.id in distrusted:
            seen = {
                **_identity(run),
                **_standing(State(Phase.failed, distrusted[run.id])),
                **_NOTHING_KNOWN,
            }
        else:
            state = known[run.id]
            state = (
                replace(state, detail=explain_identity_change(run))
                if state.phase is Phase.missing
                else state
            )
            seen = {**_identity(run), **_standing(state), **_course(run, state, now)}
        found.append({**seen, "paper_imagenet_top1": paper.get(run.experiment.name)})
    return found


def _identity(run: Run) -> Status:
    experiment = run.experiment
    where = {"profile": experiment.profile, "dir": str(run.dir)}
    return {"experiment": experiment.name, "seed": run.seed, "id": run.id, **where}


def _standing(state: State) -> Status:
    told = {"state": state.phase.value, "detail": state.detail, "live": state.is_live}
    return {**told, "job_id": state.job_id, "nodes": state.nodes}


_COURSE = (
    "epoch",
    "epochs",
    "step",
    "steps",
    "top1",
    "remaining_s",
    "device_hours_used",
    "device_hours_left",
)
_NOTHING_KNOWN: Mapping[str, Any] = {**dict.fromkeys(_COURSE), "attempts": []}


def _course(run: Run, state: State, now: float) -> Status:
    """How far the run is and what it costs."""
    reached = progress.read(run)
    done = state.phase is Phase.done
    attempts = _attempts(run, state, now)
    estimated = estimate.estimate(
        run, on_gpu=is_on_slurm(run) and run.experiment.cluster.gpus_per_node > 0
    )
    whole = estimated.device_hours
    return {
        "nodes": state.nodes or _host(attempts, state),
        "epoch": reached.epochs if done else reached.epochs_done,
        "epochs": reached.epochs,
        "step": reached.step,
        "steps": reached.total_steps,
        "top1": reached.top1,
        "remaining_s": reached.remaining_s if state.phase is Phase.running else None,
        "attempts": attempts,
        "device_hours_used": sum(attempt["device_hours"] for attempt in attempts),
        "device_hours_left": None if whole is None else whole * (1 - reached.fraction),
    }


def _host(attempts: Sequence[Status], state: State) -> str:
    """This machine, where it is what trains the run."""
    return str(attempts[-1]["host"] or "") if attempts and state.phase is Phase.running else ""


def _attempts(run: Run, state: State, now: float) -> list[Status]:
    """Each start of the run: from which step, on what, why it ended (None: not known) and what it
    cost."""
    records = jobs.attempts(run)
    starts = [r for r in records if r["event"] == "start"]
    ends = {r["attempt"]: r for r in records if r["event"] == "end"}
    last: dict[int, float] = {r["attempt"]: r["time"] for r in starts}
    if len(ends) < len(starts):
        last |= _last_signs(run)
    if starts and state.phase is Phase.running:
        last[starts[-1]["attempt"]] = now
    return [_attempt(start, ends.get(start["attempt"]), last[start["attempt"]]) for start in starts]


def _last_signs(run: Run) -> dict[int, float]:
    """When each attempt wrote for the last time: what an attempt that was killed is counted up
    to."""
    return {
        r["attempt"]: r["time"]
        for r in journal.read(run.metrics_path)
        if {"attempt", "time"} <= r.keys()
    }


def _attempt(start: Record, end: Record | None, last: float) -> Status:
    ended = end["time"] if end else last
    return {
        "attempt": start["attempt"],
        "from_step": start["step"],
        "started": start["time"],
        "reason": end["reason"] if end else None,
        "message": end.get("message", "") if end else "",
        "job_id": start.get("job_id"),
        "host": start.get("host"),
        "device_hours": (ended - start["time"]) * start.get("world_size", 1) / 3600,
    }
