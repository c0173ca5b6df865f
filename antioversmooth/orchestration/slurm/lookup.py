"""The jobs of runs that SLURM knows, whoever submitted them.

A list of jobs may be filtered or a minute old: sites wrap and cache squeue. So jobs are looked for
by their names, and those that the run directory records and that are not listed by their ids. A
job that no list and no record of an end accounts for is asked for by scontrol, before it counts as
gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from antioversmooth.orchestration.slurm import client
from antioversmooth.orchestration.slurm.client import Job, Stage
from antioversmooth.orchestration.slurm.script import job_name
from antioversmooth.runs.jobs import EventKind, is_unanswered
from antioversmooth.runs.record import RunRecord


def find_jobs(records: Sequence[RunRecord], *, thorough: bool = False) -> dict[str, list[Job]]:
    """The jobs of each run, by its id: live ones first, and the one to leave before its doubles.

    Args:
        thorough: Whether scontrol is asked for the newest job in any case, as before a run gets
            another one; else only where neither its end nor a cancellation is recorded. And for all
            jobs, after a submission that gave no id.

    Raises:
        LaunchError: SLURM's controller does not answer.
    """
    found = _Found(records)
    found.add(client.jobs_named(found.names))
    found.add(client.jobs_numbered(found.missing((r, _open_ids(r)) for r in records)))
    if thorough and any(is_unanswered(record.events) for record in records):
        found.add(client.all_jobs_shown())
    newest = [(record, _recorded_ids(record)[:1]) for record in records]
    asked = [(r, ids) for r, ids in newest if ids and (thorough or not _is_settled(r, ids[0]))]
    found.add(client.jobs_shown(found.missing(asked)))
    owners = found.missing(newest)
    for job_id, job in client.accounting(owners).items():
        found.jobs[owners[job_id]][job_id] = job
    return {r.run.id: sorted(found.jobs[r.run.id].values(), key=_rank(r)) for r in records}


class _Found:
    """Jobs that were found so far, by the id of their run and then by theirs."""

    def __init__(self, records: Iterable[RunRecord]) -> None:
        self.names = {job_name(record.run): record.run.id for record in records}
        self.jobs: dict[str, dict[str, Job]] = {run_id: {} for run_id in self.names.values()}

    def add(self, jobs: Iterable[Job]) -> None:
        """Adds those with the name of a run; the id of an old one may be another job's by now."""
        for job in jobs:
            if job.name in self.names:
                self.jobs[self.names[job.name]][job.id] = job

    def missing(self, wanted: Iterable[tuple[RunRecord, Sequence[str]]]) -> dict[str, str]:
        """The ids of wanted jobs that were not found, with the ids of their runs."""
        runs = ((record.run.id, ids) for record, ids in wanted)
        return {one: run_id for run_id, ids in runs for one in ids if one not in self.jobs[run_id]}


def doubles(record: RunRecord, jobs: Sequence[Job]) -> list[Job]:
    """Live jobs beside the first one of `find_jobs`, without those whose turn is ending."""
    return [job for job in jobs[1:] if job.is_live and not _is_ending(record, job)]


def _recorded_ids(record: RunRecord) -> list[str]:
    """Ids of the run's jobs, newest first; old versions recorded whatever sbatch printed."""
    return [job_id for job_id in record.job_ids if job_id.isascii() and job_id.isdecimal()]


def _open_ids(record: RunRecord) -> list[str]:
    """Ids of its newest job, and of older ones whose end is not recorded."""
    ids = _recorded_ids(record)
    return [*ids[:1], *(job_id for job_id in ids[1:] if not _has_ended(record, job_id))]


def _is_settled(record: RunRecord, job_id: str) -> bool:
    return record.is_cancelled or bool(record.waiting_reason) or _has_ended(record, job_id)


def _has_ended(record: RunRecord, job_id: str) -> bool:
    """Whether the end of a job's newest turn is recorded; it may have another turn since."""
    turns = record.attempts_of_job(job_id)
    if turns and turns[-1].ended is not None:
        return True
    began = turns[-1].started if turns else 0.0
    events = (e for e in record.events if e.kind is EventKind.ended and e.job_id == job_id)
    return any(event.time >= began for event in events)


def _is_ending(record: RunRecord, job: Job) -> bool:
    """Whether the turn of a live job is over, though its last processes may still be there.

    It may have submitted its successor.
    """
    is_active = job.stage is Stage.active
    return job.state == client.ENDING or (is_active and _has_ended(record, job.id))


def _rank(record: RunRecord) -> Callable[[Job], tuple[int, int]]:
    """The order of a run's jobs: that of its living attempt, then by how far each has come."""
    newest = record.attempts[-1] if record.attempts else None
    current = newest.job_id if newest is not None and newest.ended is None else None

    def rank(job: Job) -> tuple[int, int]:
        if not job.is_live:
            return 4, -job.number
        if _is_ending(record, job):
            return 3, job.number
        if job.stage is Stage.waiting:
            return 2, job.number
        return int(job.id != current), job.number

    return rank
