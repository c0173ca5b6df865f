"""Submits runs to SLURM: exactly one live job for a run, whatever launches it and is killed.

The order is lock, look, intent, submit, note. A launcher that dies in between leaves at most a job
whose id nobody noted, and the next one finds that job in the queue by its name.
"""

from __future__ import annotations

import getpass
import os
import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager

from antioversmooth import files
from antioversmooth.errors import LaunchError
from antioversmooth.orchestration.intent import write_intent
from antioversmooth.orchestration.slurm import client
from antioversmooth.orchestration.slurm.client import (
    Job,
    LimitReached,
    Stage,
    Unreachable,
    error_text,
)
from antioversmooth.orchestration.slurm.environment import plain_environment
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
    instead_of: str = "",
    tables: Sequence[str] | None = None,
) -> str:
    """Id of the one live job of a run: the job that is there already, else a new one.

    Args:
        run: The run; its directory is prepared.
        snapshot: The code that a new job runs.
        after: Ids of the jobs whose runs this one needs; a new job waits until they have succeeded.
        instead_of: Id of a job of this run without progress: it is cancelled, and does not count
            as live.
        tables: Names of the tables whose row is launched; default: those of the launch before.

    Raises:
        LimitReached: SLURM accepts the job when others have ended; the run is recorded as waiting.
        LaunchError: SLURM refuses the job, or does not answer.
    """
    script = sbatch_script(run, snapshot.path)
    dependencies = [":".join(["afterok", *after])] if after else []

    def live_or_new(lock: int) -> str:
        live = live_job(run, exclude=instead_of)
        if live is not None:
            _record_live(run, live)
            return live.id
        _write_intent(run, snapshot, tables)
        files.write_atomic(job_folder(run) / "job.sh", script)
        if instead_of:
            # its cancellation is no person's, also where no other job follows now
            _record_waiting(run, f"for the end of job {instead_of}")
            client.cancel([instead_of])
        try:
            return submit_script(run, dependencies, lock)
        except LimitReached as err:
            _record_waiting(run, describe_limit(err))
            raise

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
    instead_of: str = "",
    tables: Sequence[str] | None = None,
) -> None:
    """Records that a launch asks for the run, and that a limit allows it no job yet.

    Args:
        why: The limit, for people.
        instead_of: As in `submit`: that job is cancelled, and makes room for another.
        tables: As in `submit`.
    """
    with submission_lock(run):
        _write_intent(run, snapshot, tables)
        _record_waiting(run, why)
        client.cancel([instead_of] if instead_of else [])


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
    if record.is_cancelled or record.newest_job_id != job.id:
        append_event(run.jobs_path, EventKind.submitted, job_id=job.id)


def live_job(run: Run, *, exclude: str = "") -> Job | None:
    """The run's job that waits or runs; None without one. Cancels later ones, should there be two.

    Args:
        exclude: A job id that does not count.
    """
    same_name = client.queue(f"--name={job_name(run)}")
    live = sorted(
        (j for j in same_name if j.stage is not Stage.over and j.id != exclude),
        key=lambda j: j.number,
    )
    client.cancel(j.id for j in live[1:])
    return live[0] if live else None


def submit_script(run: Run, dependencies: list[str], lock: int) -> str:
    """Submits the script in the run's job folder and records the job; returns its id.

    `singleton` is the second line of defence: SLURM itself never starts two jobs of one name at a
    time.

    Args:
        dependencies: SLURM's words for what the job waits for besides.
        lock: The run's lock; the sbatch inherits it.
    """
    wait_for = f"--dependency={','.join([*dependencies, 'singleton'])}"
    # A job whose dependency failed stays, and is found and replaced; some clusters would cancel it,
    # as a person does.
    options = ["--parsable", wait_for, "--kill-on-invalid-dep=no"]
    done = _sbatch(*options, str(job_folder(run) / "job.sh"), pass_fds=[lock])
    if done.returncode == 0:
        # <id>;<cluster> where there are several
        job_id = done.stdout.strip().partition(";")[0]
        append_event(run.jobs_path, EventKind.submitted, job_id=job_id)
        return job_id
    what, why = f"{run.name}: SLURM refuses the job", error_text(done.stderr)
    if limit := client.submit_limit(why):
        raise LimitReached(f"{what}: {why}", limit)
    raise client.refusal(what, done.stderr)


def test_only(runs: Iterable[Run], snapshot: Snapshot) -> list[str]:
    """Asks SLURM whether it would accept such jobs, once for each shape; submits nothing.

    Plain sbatch accepts some jobs that can never start, such as one with more nodes than its
    partition has.

    Returns:
        Warnings about jobs that would wait for nodes that are down.

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
        done = _sbatch("--test-only", script=script)
        # at a limit on submitted jobs SLURM says nothing about the shape
        if client.submit_limit(done.stderr):
            continue
        if done.returncode and not (waits := _waits_for_nodes(run, done.stderr)):
            raise LaunchError(f"{run.name}: SLURM would refuse the job: {error_text(done.stderr)}")
        if done.returncode:
            warnings.append(waits)
    return warnings


def ignored_variables() -> str | None:
    """A warning about variables of sbatch in this shell, which are not used; None without any."""
    found = sorted(key for key in os.environ if key.startswith("SBATCH_"))
    message = "not used, the cluster profile says what jobs ask for"
    return f"{', '.join(found)}: {message}" if found else None


def _waits_for_nodes(run: Run, stderr: str) -> str:
    """A warning about a job that waits for nodes that are down; empty if it can never start.

    SLURM then queues a job that `--test-only` refuses.
    """
    cluster = run.experiment.cluster
    if "not available" not in stderr:
        return ""
    up, total = client.count_nodes(cluster.partition)
    if not up < cluster.nodes <= total:
        return ""
    up_now = f"only {up} of the partition's {total} nodes are up (sinfo -R says why)"
    return f"{run.name}: {up_now}; it waits for {cluster.nodes}"


def _sbatch(
    *arguments: str, script: str | None = None, pass_fds: Iterable[int] = ()
) -> subprocess.CompletedProcess[str]:
    """The end of an sbatch, which reads the script from its input where no file is named."""
    return client.run_client(
        "sbatch",
        *arguments,
        input=script,
        env=plain_environment(),
        pass_fds=tuple(pass_fds),
    )


def cancel(run: Run) -> list[str]:
    """Ids of the run's jobs, which are ended; only a person's launch submits the run again."""
    with submission_lock(run):
        live = [j.id for j in client.queue(f"--name={job_name(run)}") if j.stage is not Stage.over]
        # before the deed: a job that saves and ends in between must not come back
        running = [one.number for one in run.attempts()[-1:] if one.ended is None]
        append_event(run.jobs_path, EventKind.cancelled, attempt=next(iter(running), None))
        client.cancel(live)
        return live
