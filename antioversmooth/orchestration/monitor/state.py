"""The status of runs: their directories, overlaid with what one squeue and at most one sacct tell.

The directory decides what it can: a result means done, whatever SLURM says. squeue speaks for every
job that SLURM's controller remembers. Accounting, which lags and often is not there, speaks only
for jobs that it has forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from antioversmooth.errors import LaunchError
from antioversmooth.orchestration.monitor.pending import (
    DEPENDENCY_FAILED,
    describe_pending_reason,
    is_held,
)
from antioversmooth.orchestration.slurm import client
from antioversmooth.orchestration.slurm.client import RUNNING, Job, Stage
from antioversmooth.orchestration.slurm.script import job_name
from antioversmooth.runs.attempts import EndReason
from antioversmooth.runs.jobs import EventKind
from antioversmooth.runs.record import RunRecord, status_after
from antioversmooth.runs.status import AFTER_END, RunState, RunStatus


def query_statuses(records: Sequence[RunRecord]) -> dict[str, RunStatus]:
    """The status of each run, by its id."""
    asked = [record for record in records if record.is_on_slurm and not _is_decided(record)]
    try:
        queue = _newest_by_name(client.queue()) if asked else {}
    except LaunchError as err:
        return {record.run.id: _status_without_slurm(record, str(err)) for record in records}
    names = {record.run.id: job_name(record.run) for record in asked}
    forgotten = {
        record.run.id: record.newest_job_id for record in asked if names[record.run.id] not in queue
    }
    ended = client.accounting(job_id for job_id in forgotten.values() if job_id)
    statuses = {record.run.id: record.status for record in records}
    for record in asked:
        run_id = record.run.id
        job = queue.get(names[run_id]) or ended.get(forgotten.get(run_id) or "")
        statuses[run_id] = _overlay(record, job)
    return statuses


def _is_decided(record: RunRecord) -> bool:
    """Whether the directory alone decides: there is a result, valid or not."""
    return record.result is not None or bool(record.invalid_result_reason)


def _newest_by_name(queue: Iterable[Job]) -> dict[str, Job]:
    """For each name its live job, else the newest."""
    in_order = sorted(queue, key=lambda job: (job.stage is not Stage.over, job.number))
    return {job.name: job for job in in_order}


def _status_without_slurm(record: RunRecord, why: str) -> RunStatus:
    """The status by the directory, of runs on SLURM only where that needs no queue."""
    is_known = _is_decided(record) or record.status.state is RunState.running
    if not record.is_on_slurm or is_known:
        return record.status
    return RunStatus(RunState.unknown, why, job_id=record.newest_job_id)


def _overlay(record: RunRecord, job: Job | None) -> RunStatus:
    is_over = job is None or (job.stage is Stage.over and job.id == record.newest_job_id)
    if record.waiting_reason and is_over:
        return record.status
    if job is None:
        return _status_without_job(record)
    if job.stage is Stage.over:
        return _status_after_job(record, job)
    return _waiting(record, job) if job.stage is Stage.waiting else _active(record, job)


def _waiting(record: RunRecord, job: Job) -> RunStatus:
    ended = {event.job_id for event in record.events if event.kind is EventKind.ended}
    has_run = bool(record.attempts_of_job(job.id)) or job.id in ended
    detail = describe_pending_reason(record, job, has_run=has_run)
    if is_held(job):
        return RunStatus(RunState.held, detail, job_id=job.id)
    if has_run:
        return RunStatus(RunState.requeued, detail, job_id=job.id)
    if job.reason.strip("()") == DEPENDENCY_FAILED:
        return RunStatus(RunState.dependency_failed, detail, job_id=job.id)
    return RunStatus(RunState.pending, detail, job_id=job.id)


def _active(record: RunRecord, job: Job) -> RunStatus:
    def running(detail: str) -> RunStatus:
        return RunStatus(RunState.running, detail, job_id=job.id, nodes=job.nodes)

    if job.state != RUNNING:
        return running(f"{job.state.lower()}{', cancelled' if record.is_cancelled else ''}")
    begun = [
        attempt.started
        for attempt in record.attempts_of_job(job.id)
        if attempt.started >= _start_of_turn(job)
    ]
    # lines of setup may take their time
    if not begun:
        return running("its processes are starting")
    silent_s = record.now - max(record.heartbeat or 0.0, *begun)
    if silent_s > record.run.experiment.runtime.timeout_s:
        detail = f"no sign of life for {silent_s:.0f} s on {job.nodes}"
        return RunStatus(RunState.hung, detail, EndReason.hang, job.id, job.nodes)
    return running("")


def _start_of_turn(job: Job) -> float:
    """Seconds since 1970 at the start of this turn of an active job; SLURM gives local time."""
    try:
        return datetime.fromisoformat(job.start).timestamp()
    except ValueError:
        # N/A
        return 0.0


_REASONS = {
    "PREEMPTED": EndReason.preempted,
    "TIMEOUT": EndReason.timeout,
    "DEADLINE": EndReason.timeout,
    "NODE_FAIL": EndReason.node_fail,
    "BOOT_FAIL": EndReason.node_fail,
    "OUT_OF_MEMORY": EndReason.out_of_memory,
}
"""Reasons of an end by the state of its job."""


def _status_after_job(record: RunRecord, job: Job) -> RunStatus:
    attempts = record.attempts_of_job(job.id)
    if job.state == "CANCELLED":
        ran = bool(attempts or job.nodes)
        return _cancelled(ran, f"job {job.id} was cancelled", job.id, job.nodes)
    if job.state in _REASONS:
        reason = _REASONS[job.state]
        detail = f"job {job.id} ended as {job.state}"
        return RunStatus(AFTER_END[reason], detail, reason, job.id, job.nodes)
    recorded = _recorded_end(record, job.id, job.nodes)
    if recorded is not None:
        return recorded
    where = ", before its processes began: on a broken node, or in a line of cluster.setup"
    detail = f"job {job.id} ended as {job.state}{'' if attempts else where}"
    return RunStatus(RunState.failed, detail, EndReason.crash, job.id, job.nodes)


def _cancelled(ran: bool, detail: str, job_id: str | None, nodes: str = "") -> RunStatus:
    if ran:
        return RunStatus(RunState.cancelled_running, detail, EndReason.cancelled, job_id, nodes)
    return RunStatus(RunState.cancelled_pending, detail, job_id=job_id, nodes=nodes)


def _status_without_job(record: RunRecord) -> RunStatus:
    """The status where SLURM knows no job of the run, or has forgotten it."""
    job_id = record.newest_job_id
    if record.is_cancelled:
        return _cancelled(bool(record.attempts), "cancelled", job_id)
    if job_id is None:
        return RunStatus(RunState.missing)
    return _recorded_end(record, job_id) or RunStatus(
        RunState.lost, f"SLURM knows nothing of job {job_id}", EndReason.crash, job_id
    )


def _recorded_end(record: RunRecord, job_id: str, nodes: str = "") -> RunStatus | None:
    """The status by the newest recorded end of a job, with or without an attempt; else None."""
    ends = [
        (attempt.ended, attempt.reason, attempt.message)
        for attempt in record.attempts_of_job(job_id)
        if attempt.ended is not None
    ]
    for event in record.events:
        if event.kind is EventKind.ended and event.job_id == job_id and event.attempt is None:
            exited = "" if event.reason else f"its processes ended with exit code {event.code}"
            ends.append((event.time, event.reason, event.message or exited))
    if not ends:
        return None
    _, reason, message = max(ends, key=lambda end: end[0])
    return status_after(reason or EndReason.crash, message, job_id=job_id, nodes=nodes)
