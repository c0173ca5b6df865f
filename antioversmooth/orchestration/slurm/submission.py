"""Submits runs to SLURM: exactly one live job for a run, whatever launches it and is killed.

The order is lock, look, intent, submit, note. A launcher that dies in between leaves at most a job
whose id nobody noted, and the next one finds that job in the queue by its name. Several people may
share the runs; each ends only jobs of one's own.
"""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager

from antioversmooth import files
from antioversmooth.errors import LaunchError
from antioversmooth.orchestration.intent import write_intent
from antioversmooth.orchestration.slurm import client, environment
from antioversmooth.orchestration.slurm.capacity import describe_wait
from antioversmooth.orchestration.slurm.client import Job, LimitReached, Unanswered
from antioversmooth.orchestration.slurm.commands import Unreachable
from antioversmooth.orchestration.slurm.limits import submit_limit
from antioversmooth.orchestration.slurm.lookup import doubles, find_jobs
from antioversmooth.orchestration.slurm.script import job_folder, job_name, sbatch_script
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import Run
from antioversmooth.runs.jobs import EventKind, append_event
from antioversmooth.runs.lock import LAUNCH_LOCK, hold_lock
from antioversmooth.runs.record import SLURM, RunRecord

LOCK_TIMEOUT_S = 120.0
"""Wait for other launchers of the same run. An sbatch takes a second, or ten on a busy cluster."""


def submission_lock(run: Run) -> AbstractContextManager[int]:
    """Holds the right to start this run; waits while another launcher has it.

    Yields:
        The file descriptor that holds the lock. An sbatch that inherits it keeps it when its
        launcher is killed: the next launcher looks into the queue after that sbatch has ended.

    Raises:
        LaunchError: Another launcher keeps the lock, as a local back end that trains this run does.
    """
    message = f"{run.name} is held by another launcher, which may be training it: {run.dir}"
    return hold_lock(run.dir, LAUNCH_LOCK, timeout_s=LOCK_TIMEOUT_S, message=message)


def submit(
    run: Run,
    snapshot: Snapshot,
    *,
    after: Sequence[str] = (),
    replaced_job_id: str = "",
    tables: Sequence[str] | None = None,
) -> str:
    """Id of the one live job of a run: the job that is there already, else a new one.

    Args:
        run: The run; its directory is prepared.
        snapshot: The code that a new job runs.
        after: Ids of the jobs whose runs this one needs; a new job waits until they have succeeded.
        replaced_job_id: Id of a job of this run without progress: it is cancelled, and does not
            count as live.
        tables: Names of the tables whose row is launched; default: those of the launch before.

    Raises:
        LimitReached: SLURM accepts the job when others have ended; the run is recorded as waiting.
        LaunchError: SLURM refuses the job, or does not answer.
    """
    script = sbatch_script(run, snapshot.path)
    dependencies = [":".join(["afterok", *after])] if after else []

    def live_or_new(lock: int) -> str:
        live = live_job(run, replaced_job_id=replaced_job_id)
        if live is not None:
            _record_live(run, live)
            return live.id
        _write_intent(run, snapshot, tables)
        files.write_atomic(job_folder(run) / "job.sh", script)
        if replaced_job_id:
            # its cancellation is no person's, also where no other job follows now
            _record_waiting(run, f"for the end of job {replaced_job_id}")
            _end(run, replaced_job_id)
        return submit_script(run, dependencies, lock, replaced_job_id=replaced_job_id)

    with submission_lock(run) as lock:
        try:
            return live_or_new(lock)
        except Unreachable:
            # a controller that restarts or is busy; it may have the job by now
            time.sleep(5)
            return live_or_new(lock)


def hold_back(
    run: Run,
    snapshot: Snapshot,
    why: str,
    *,
    replaced_job_id: str = "",
    tables: Sequence[str] | None = None,
) -> None:
    """Records that a launch asks for the run, and that a limit allows it no job yet.

    Args:
        why: The limit, for people.
        replaced_job_id: As in `submit`: that job is cancelled, and makes room for another.
        tables: As in `submit`.
    """
    with submission_lock(run):
        _write_intent(run, snapshot, tables)
        _record_waiting(run, why)
        if replaced_job_id:
            _end(run, replaced_job_id)


def _end(run: Run, job_id: str) -> None:
    """Ends a job of the run that makes no progress.

    Raises:
        LaunchError: SLURM does not let this user end it, or does not do so.
    """
    if refused := client.cancel([job_id]):
        raise LaunchError(f"{run.name}: job {job_id} goes on: {refused[job_id]}")


def describe_limit(reached: LimitReached) -> str:
    """The reason to wait, for people."""
    return f"for the limit {reached.limit}"


def _write_intent(run: Run, snapshot: Snapshot, tables: Sequence[str] | None) -> None:
    """Writes the intent, unless the run waits for its job by the same one."""
    record = RunRecord.read(run)
    facts: dict[str, object] = {"snapshot": snapshot.id, "user": getpass.getuser()}
    if tables is not None:
        facts["tables"] = [*tables]
    if not record.waiting_reason or not facts.items() <= record.intent.items():
        write_intent(run, SLURM, snapshot, tables=tables)


def _record_waiting(run: Run, why: str) -> None:
    if RunRecord.read(run).waiting_reason != why:
        append_event(run.jobs_path, EventKind.waiting, message=why)


def _record_live(run: Run, job: Job) -> None:
    """Records a live job as submitted, unless it is recorded and nobody cancelled it."""
    record = RunRecord.read(run)
    is_recorded = record.newest_job_id == job.id and record.job_user(job.id) == job.user
    if record.is_cancelled or not is_recorded:
        append_event(run.jobs_path, EventKind.submitted, job_id=job.id, user=job.user)


def live_job(run: Run, *, replaced_job_id: str = "") -> Job | None:
    """The run's job that waits or runs; None without one. Cancels others of this user.

    Args:
        replaced_job_id: Id of a job that does not count: it ends.
    """
    record = RunRecord.read(run)
    jobs = [job for job in find_jobs([record], thorough=True)[run.id] if job.id != replaced_job_id]
    client.cancel(job.id for job in doubles(record, jobs) if not job.owner)
    return jobs[0] if jobs and jobs[0].is_live else None


def other_user(run: Run, job_id: str) -> str:
    """The other user whose job it is, as far as it is recorded; empty for this user's."""
    user = RunRecord.read(run).job_user(job_id)
    return "" if user in client.own_names() else user


def end_doubles(run: Run) -> None:
    """Ends this user's live jobs of a run but one, which is recorded as submitted last."""
    with submission_lock(run):
        live = live_job(run)
        if live is not None:
            _record_live(run, live)


def submit_script(
    run: Run, dependencies: list[str], lock: int, *, replaced_job_id: str = ""
) -> str:
    """Submits the script in the run's job folder and records the job; returns its id.

    `singleton` is the second line of defence: SLURM itself never starts two jobs of one name at a
    time.

    Args:
        dependencies: SLURM's words for what the job waits for besides.
        lock: The run's lock; the sbatch inherits it.
        replaced_job_id: As in `live_job`.

    Raises:
        LimitReached: SLURM accepts the job when others have ended; the run is recorded as waiting.
        Unanswered: The job may be in the queue or not, which the next launch looks up.
        LaunchError: SLURM refuses the job, or does not answer.
    """
    wait_for = f"--dependency={','.join([*dependencies, 'singleton'])}"
    # A job whose dependency failed stays, and is found and replaced; some clusters would cancel it,
    # as a person does.
    options = [wait_for, "--kill-on-invalid-dep=no", str(job_folder(run) / "job.sh")]
    try:
        job_id = client.submit(*options, what=run.name, name=job_name(run), pass_fds=[lock])
    except LimitReached as err:
        _record_waiting(run, describe_limit(err))
        raise
    except Unanswered:
        append_event(run.jobs_path, EventKind.unanswered)
        job = live_job(run, replaced_job_id=replaced_job_id)
        if job is None:
            raise
        job_id = job.id
    append_event(run.jobs_path, EventKind.submitted, job_id=job_id, user=client.user_name())
    return job_id


def test_only(runs: Iterable[Run], snapshot: Snapshot) -> list[str]:
    """Asks SLURM whether it would accept such jobs, once for each shape; submits nothing.

    Plain sbatch accepts some jobs that can never start, such as one with more nodes than its
    partition has.

    Returns:
        Warnings about jobs that would wait, for nodes that are down or for a reservation.

    Raises:
        LaunchError: With the run and SLURM's words.
    """
    asked, warnings = set(), []
    for run in runs:
        script = sbatch_script(run, snapshot.path)
        own = ("#SBATCH --job-name", "#SBATCH --output", "#SBATCH --error")
        directives = [line for line in script.splitlines() if line.startswith("#SBATCH")]
        shape = tuple(line for line in directives if not line.startswith(own))
        if shape in asked:
            continue
        asked.add(shape)
        refused = client.test_only(script)
        # at a limit on submitted jobs SLURM says nothing about the shape
        if not refused or submit_limit(refused):
            continue
        waits = describe_wait(run.experiment.cluster, refused)
        if not waits:
            raise LaunchError(f"{run.name}: SLURM would refuse the job: {refused}")
        warnings.append(f"{run.name}: {waits}")
    return warnings


def ignored_variables() -> str | None:
    """A warning about variables of this shell that jobs do not get; None without any."""
    found = environment.ignored_variables()
    message = "not used, the cluster profile says what jobs ask for"
    return f"{', '.join(found)}: {message}" if found else None


class Refused(LaunchError):
    """A job that goes on: this user may not end it, or scancel does not."""


def cancel(run: Run) -> list[Job]:
    """The run's jobs, which are ended; only a person's launch submits the run again.

    Raises:
        Refused: SLURM does not let this user end a job of another one; then the run is not recorded
            as cancelled, and this user's own jobs of it are ended. Or a job goes on though scancel
            accepted; if it is this user's, no other job follows it.
    """
    with submission_lock(run):
        record = RunRecord.read(run)
        live = [job for job in find_jobs([record], thorough=True)[run.id] if job.is_live]
        refused = client.cancel(job.id for job in live if job.owner)
        # before the deed: a job that saves and ends in between must not come back
        if not refused and not record.is_cancelled:
            running = [one.number for one in record.attempts[-1:] if one.ended is None]
            append_event(run.jobs_path, EventKind.cancelled, attempt=next(iter(running), None))
        refused |= client.cancel(job.id for job in live if not job.owner)
    ended = [job for job in live if job.id not in refused]
    if refused:
        words = [f"{job} goes on: {refused[job.id]}" for job in live if job.id in refused]
        words += [f"{job} cancelled" for job in ended]
        raise Refused(f"{run.name}: {'; '.join(words)}")
    return ended
