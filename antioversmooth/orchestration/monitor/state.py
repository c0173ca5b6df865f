"""The status of runs: their directories, overlaid with what SLURM says of their jobs.

The directory decides what it can: a result means done, whatever SLURM says. squeue speaks for every
job that SLURM's controller remembers. Accounting, which lags and often is not there, speaks only
for jobs that it has forgotten. Where nobody knows a job, the signs of life of its processes count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from antioversmooth.errors import LaunchError
from antioversmooth.orchestration.monitor.pending import (
    DEPENDENCY_FAILED,
    describe_pending_reason,
    is_held,
)
from antioversmooth.orchestration.slurm import client
from antioversmooth.orchestration.slurm.client import RUNNING, Job, Stage
from antioversmooth.orchestration.slurm.lookup import doubles, find_jobs
from antioversmooth.runs.attempts import EndReason
from antioversmooth.runs.jobs import EventKind
from antioversmooth.runs.record import RunRecord, status_after
from antioversmooth.runs.status import AFTER_END, RunState, RunStatus


class Look(NamedTuple):
    """Runs and their jobs at one moment, by run id."""

    statuses: dict[str, RunStatus]
    doubles: dict[str, list[Job]]
    """Live jobs beside the one of the status; only of runs that have some."""


def query_statuses(records: Sequence[RunRecord]) -> dict[str, RunStatus]:
    """The status of each run, by its id."""
    return look(records).statuses


def look(records: Sequence[RunRecord]) -> Look:
    """The statuses of runs, and jobs that they have too many."""
    asked = [record for record in records if record.is_on_slurm and not _is_decided(record)]
    try:
        jobs = find_jobs(asked)
        seen = {record.run.id: _overlay(record, jobs[record.run.id]) for record in asked}
        seen |= _hidden(asked, seen)
    except LaunchError as err:
        return Look({r.run.id: _status_without_slurm(r, str(err)) for r in records}, {})
    statuses = {record.run.id: record.status for record in records} | seen
    beside = {record.run.id: doubles(record, jobs[record.run.id]) for record in asked}
    return Look(statuses, {run_id: some for run_id, some in beside.items() if some})


def _is_decided(record: RunRecord) -> bool:
    """Whether the directory alone decides: there is a result, valid or not."""
    return record.result is not None or bool(record.invalid_result_reason)


def _hidden(records: Sequence[RunRecord], seen: dict[str, RunStatus]) -> dict[str, RunStatus]:
    """Statuses of runs whose job SLURM may hide, since it is another user's."""
    owners = {
        record.run.id: owner
        for record in records
        if seen[record.run.id].state is RunState.lost
        and (owner := record.job_user(record.newest_job_id or "")) not in client.own_names()
    }
    if not owners or not client.hides_other_users():
        return {}
    hides = "SLURM hides other users' jobs here (PrivateData); its owner sees or cancels it"
    return {
        run_id: RunStatus(RunState.unknown, hides, job_id=seen[run_id].job_id, owner=owner)
        for run_id, owner in owners.items()
    }


def _status_without_slurm(record: RunRecord, why: str) -> RunStatus:
    """The status by the directory, of runs on SLURM only where that needs no queue."""
    is_known = _is_decided(record) or record.status.state is RunState.running
    if not record.is_on_slurm or is_known:
        return record.status
    return RunStatus(RunState.unknown, why, job_id=record.newest_job_id)


def _overlay(record: RunRecord, jobs: Sequence[Job]) -> RunStatus:
    """The status of a run with these jobs, the one that speaks for it first."""
    job = jobs[0] if jobs else None
    if job is None or not job.is_live:
        return _status_of_gone(record, job)
    status = _waiting(record, job) if job.stage is Stage.waiting else _active(record, job)
    beside = [str(other) for other in doubles(record, jobs)]
    also = f"{', '.join(beside)} {'is' if len(beside) == 1 else 'are'} for this run as well"
    detail = "; ".join(filter(None, [status.detail, also if beside else ""]))
    return replace(status, detail=detail, owner=job.owner)


def _status_of_gone(record: RunRecord, job: Job | None) -> RunStatus:
    """The status where no job is live, as far as SLURM here says; `job` is its newest one."""
    if record.waiting_reason and (job is None or job.id == record.newest_job_id):
        return record.status
    if record.status.state is RunState.running and not record.is_cancelled:
        lives_in = record.attempts[-1].job_id
        if job is None or lives_in != job.id:
            heard = "SLURM lists no job of it here, but its processes give signs of life"
            return RunStatus(RunState.running, heard, job_id=lives_in)
    newest = record.newest_job_id or ""
    if job is None or (newest.isdecimal() and int(newest) > job.number):
        return _status_without_job(record)
    return _status_after_job(record, job)


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
