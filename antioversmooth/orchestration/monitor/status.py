"""The values that `status` shows for each run: its state, how far it is, what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from antioversmooth.config import Table
from antioversmooth.datasets.current import CurrentData
from antioversmooth.orchestration.estimate import Estimator
from antioversmooth.orchestration.monitor.progress import progress_of
from antioversmooth.orchestration.monitor.state import query_statuses
from antioversmooth.runs import Run
from antioversmooth.runs.attempts import Attempt
from antioversmooth.runs.record import RunRecord, read_records
from antioversmooth.runs.recorded_data import describe_change, describe_unreadable
from antioversmooth.runs.status import RunState, RunStatus

Status = dict[str, Any]
"""JSON types: what `status --json` prints for a run. Hours are device-hours, accuracies percent."""


def statuses(
    runs: Sequence[Run],
    tables: Sequence[Table],
    *,
    now: float | None = None,
    data: CurrentData | None = None,
) -> list[Status]:
    """One value for each run; SLURM is asked for all of them together.

    Args:
        tables: The tables with the paper's accuracies.
        now: Seconds since 1970; default: the clock.
        data: Data sets that were read before, by a program that asks repeatedly.
    """
    records = read_records(runs, now=now, traced=True)
    return describe_statuses(records, query_statuses(records), tables, data)


def describe_statuses(
    records: Sequence[RunRecord],
    known: Mapping[str, RunStatus],
    tables: Sequence[Table],
    data: CurrentData | None = None,
) -> list[Status]:
    """One value for each run.

    Args:
        known: Status by run id.
        tables: The tables with the paper's accuracies.
        data: Data sets that were read before.
    """
    data = data or CurrentData()
    paper = {row.row_name: row.paper.top1 for table in tables for row in table.rows if row.paper}
    estimator = Estimator(records)
    return [
        {
            **_describe_run(record.run),
            **_describe_status(known[record.run.id], describe_changed_data(record, data)),
            **_describe_progress(record, known[record.run.id], estimator),
            "paper_imagenet_top1": paper.get(record.run.experiment.row_name),
        }
        for record in records
    ]


def _describe_run(run: Run) -> Status:
    experiment = run.experiment
    where = {"profile": experiment.profile, "dir": str(run.dir)}
    named = {"experiment": experiment.name, "row": experiment.row_name}
    return {**named, "seed": run.seed, "id": run.id, **where}


def describe_changed_data(record: RunRecord, data: CurrentData) -> str:
    """How the data of a done run differs from the data now, or why it is not compared.

    Empty where it does not differ, and for an imported run: its `data.root` is of another machine.
    """
    if record.result is None or record.run.is_imported:
        return ""
    found = data.facts(record.run.experiment.data)
    return describe_change(record.result, found) or describe_unreadable(found)


def _describe_status(status: RunStatus, changed_data: str) -> Status:
    return {
        "state": status.state.value,
        "detail": status.detail or changed_data,
        "live": status.state.is_live,
        "job_id": status.job_id,
        "job_owner": status.owner or None,
    }


def _describe_progress(record: RunRecord, status: RunStatus, estimator: Estimator) -> Status:
    """How far the run is by its journal, and what it costs."""
    progress = progress_of(record)
    attempts = _attempts_until_now(record, status)
    cluster = record.run.experiment.cluster
    total = estimator.estimate(
        record, on_gpu=record.is_on_slurm and cluster.gpus_per_node > 0
    ).device_hours
    is_running = status.state is RunState.running
    host = attempts[-1].host if attempts and is_running else None
    return {
        "nodes": status.nodes or host or "",
        "epoch": progress.epochs if status.state is RunState.done else progress.epochs_done,
        "epochs": progress.epochs,
        "step": progress.step,
        "steps": progress.total_steps,
        "top1": progress.top1,
        "remaining_s": progress.remaining_s if is_running else None,
        "attempts": [_describe_attempt(attempt) for attempt in attempts],
        "device_hours_used": _device_hours(record, attempts),
        "device_hours_left": None if total is None else total * (1 - progress.fraction),
    }


def _device_hours(record: RunRecord, attempts: Sequence[Attempt]) -> float:
    """Those of its result, which a table shows; before it those of the attempts so far."""
    if record.result is not None:
        return float(record.result["device_hours"])
    return sum(attempt.device_seconds for attempt in attempts) / 3600


def _attempts_until_now(record: RunRecord, status: RunStatus) -> list[Attempt]:
    """The attempts; the newest one of a running run was last seen now."""
    attempts = record.attempts_with_cost
    if attempts and status.state is RunState.running:
        return [*attempts[:-1], replace(attempts[-1], last_seen=record.now)]
    return attempts


def _describe_attempt(attempt: Attempt) -> Status:
    return {
        "attempt": attempt.number,
        "from_step": attempt.step,
        "started": attempt.started,
        "reason": attempt.reason.value if attempt.reason else None,
        "message": attempt.message,
        "job_id": attempt.job_id,
        "host": attempt.host,
        "device_hours": attempt.device_seconds / 3600,
    }
