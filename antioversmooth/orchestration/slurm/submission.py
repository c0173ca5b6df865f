"""Handing runs to SLURM: exactly one live job for a run, whoever launches it, however often and
wherever it is killed.

The order is lock, look, intent, submit, note. A launcher that dies in between leaves at most a job
whose id nobody noted, and the next one finds that job in the queue by its name.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable, Sequence

from antioversmooth import files
from antioversmooth.errors import LaunchError
from antioversmooth.orchestration.backend import Backend
from antioversmooth.orchestration.intent import write_intent
from antioversmooth.orchestration.slurm import client, jobs
from antioversmooth.orchestration.slurm.client import Job, Stage, Unreachable, plain_words
from antioversmooth.orchestration.slurm.script import job_folder, job_name, sbatch_script
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import Run


def submit(run: Run, snapshot: Snapshot, *, after: Sequence[str] = (), instead_of: str = "") -> str:
    """Id of the one live job of a run: the job that is there already, else a new one.

    Args:
        run: The run; its directory is prepared.
        snapshot: The code that a new job runs.
        after: Ids of the jobs whose runs this one needs; a new job waits until they have succeeded.
        instead_of: Id of a job of this run that gets nowhere: it is cancelled, and does not count
            as live.

    Raises:
        LaunchError: SLURM refuses the job, or does not answer.
    """
    script = sbatch_script(run, snapshot.path)
    dependencies = [":".join(["afterok", *after])] if after else []
    with jobs.submission_lock(run) as lock:
        try:
            return _live_or_new(run, script, snapshot, dependencies, instead_of, lock)
        except Unreachable:
            # a controller that restarts or is busy; it may have the job by now
            time.sleep(5)
            return _live_or_new(run, script, snapshot, dependencies, instead_of, lock)


def _live_or_new(
    run: Run, script: str, snapshot: Snapshot, dependencies: list[str], instead_of: str, lock: int
) -> str:
    live = the_one_live_job(run, besides=instead_of)
    if live is not None:
        if jobs.is_cancelled(run) or jobs.newest_job(run) != live.id:
            jobs.note(run, "submitted", job_id=live.id)
        return live.id
    write_intent(run, Backend.slurm.value, snapshot)
    files.write_atomic(job_folder(run) / "job.sh", script)
    client.cancel([instead_of] if instead_of else [])
    job_id = send(run, dependencies, lock)
    jobs.note(run, "submitted", job_id=job_id)
    return job_id


def the_one_live_job(run: Run, *, besides: str = "") -> Job | None:
    """The run's job that waits or runs, if there is one; cancels the later ones, should there ever
    be two.

    Args:
        besides: A job id that does not count.
    """
    same_name = client.queue(f"--name={job_name(run)}")
    live = sorted(
        (j for j in same_name if j.stage is not Stage.over and j.id != besides),
        key=lambda j: j.number,
    )
    client.cancel(j.id for j in live[1:])
    return live[0] if live else None


def send(run: Run, dependencies: list[str], lock: int) -> str:
    """Id of a new job, made from the script in the run's job folder.

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
        return done.stdout.strip().partition(";")[0]
    raise client.refusal(f"{run.name}: SLURM refuses the job", done.stderr)


def rehearse(runs: Iterable[Run], snapshot: Snapshot) -> list[str]:
    """Asks SLURM whether it would take jobs like these, once for each shape of job; submits
    nothing.

    Plain sbatch takes some jobs that can never start, such as one with more nodes than its
    partition has.

    Returns:
        What to say of jobs that it would take and that would wait for more than their turn.

    Raises:
        LaunchError: With the run and SLURM's words.
    """
    asked, told = set(), []
    for run in runs:
        script = sbatch_script(run, snapshot.path)
        own = ("#SBATCH --job-name", "#SBATCH --output", "#SBATCH --error")
        shape = tuple(
            line
            for line in script.splitlines()
            if line.startswith("#SBATCH") and not line.startswith(own)
        )
        if shape not in asked:
            asked.add(shape)
            done = _sbatch("--test-only", script=script)
            if done.returncode and not (waits := _waits_for_nodes(run, done.stderr)):
                raise LaunchError(
                    f"{run.name}: SLURM would refuse the job: {plain_words(done.stderr)}"
                )
            if done.returncode:
                told.append(waits)
    return told


def set_aside() -> str | None:
    """What to say of sbatch's variables in this shell; None where there are none."""
    found = sorted(key for key in os.environ if key.startswith("SBATCH_"))
    return (
        f"{', '.join(found)}: not used, the cluster profile says what jobs ask for"
        if found
        else None
    )


def _waits_for_nodes(run: Run, stderr: str) -> str:
    """What to say where only nodes that are down or drained now keep a job from starting; empty
    where more does.

    SLURM then queues a job that `--test-only` refuses.
    """
    nodes = run.experiment.cluster.nodes
    up, total = (
        client.count_nodes(run.experiment.cluster.partition)
        if "not available" in stderr
        else (0, 0)
    )
    if not up < nodes <= total:
        return ""
    return (
        f"{run.name}: only {up} of the partition's {total} nodes are up (sinfo -R says why); it"
        f" waits for {nodes}"
    )


def _sbatch(
    *arguments: str, script: str | None = None, pass_fds: Iterable[int] = ()
) -> subprocess.CompletedProcess[str]:
    """The end of an sbatch, which reads the script from its input where no file is named."""
    # Of a job that this may run in, a new job must take over nothing but the way to the cluster.
    inside = ("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_") if "SLURM_JOB_ID" in os.environ else ()
    environment = client.plain_environment()
    outside = {
        k: v for k, v in environment.items() if k == "SLURM_CONF" or not k.startswith(inside)
    }
    command = ["sbatch", *arguments]
    try:
        return subprocess.run(
            command,
            input=script,
            capture_output=True,
            text=True,
            env=outside,
            pass_fds=tuple(pass_fds),
        )
    except FileNotFoundError as err:
        raise LaunchError(
            "there is no sbatch on PATH: this is not a machine of a SLURM cluster"
        ) from err


def cancel(run: Run) -> list[str]:
    """Ids of the run's jobs that were ended; the run stays resumable, and is submitted again only
    when asked for."""
    with jobs.submission_lock(run):
        live = [j.id for j in client.queue(f"--name={job_name(run)}") if j.stage is not Stage.over]
        # before the deed: a job that saves and ends in between must not come back
        jobs.note(run, "cancelled")
        client.cancel(live)
        return live
