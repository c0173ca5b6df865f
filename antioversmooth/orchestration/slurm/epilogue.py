"""The last word of a batch script: `python -m antioversmooth.orchestration.slurm.epilogue RUN_DIR
EXIT_CODE STARTED`.

The processes of a run do not decide what becomes of their job: they may be dead, and a requeue
kills whoever asks for it. The batch script outlives them, and this reads from the run directory
whether the run goes on.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from antioversmooth.errors import AntiOversmoothError, LaunchError
from antioversmooth.orchestration.local.worker import close_attempt
from antioversmooth.orchestration.slurm import client, jobs, submission
from antioversmooth.orchestration.slurm.budget import Verdict, verdict
from antioversmooth.orchestration.slurm.client import RUNNING, Job
from antioversmooth.orchestration.slurm.script import job_folder
from antioversmooth.runs import Run
from antioversmooth.runs.journal import EndReason, Record


def finish(run: Run, code: int, started: float, job_id: str) -> int:
    """Exit code of the batch script, after the run was given another turn if it may have one.

    Args:
        code: Exit code of srun, which is the highest of its tasks.
        started: When this turn of the job began, in seconds since 1970.
        job_id: The job that this batch script belongs to.
    """
    if run.result() is not None:
        return 0
    job = _patiently(job_id)
    log, size = _said_by_slurm(run, job_id)
    cause = next((cause for sign, cause in _CAUSES if sign.search(log)), None)
    end = _end_of_turn(run, _attempts_of_turn(run, job_id, started), code, cause)
    facts = {"attempt": end["attempt"]} if end else cause or {}
    jobs.note(run, "ended", job_id=job_id, code=code, state=job.state, log_size=size, **facts)
    judged = _may_go_on(run, end, job)
    print(
        f"{run.name}: srun ended with {code}; goes on: {'yes' if judged.again else 'no'}:"
        f" {judged.why}",
        flush=True,
    )
    if judged.again:
        _go_on(run, job_id)
    # 0 would start the runs that wait for this one
    return code or os.EX_TEMPFAIL


def _patiently(job_id: str) -> Job:
    """The job as SLURM tells it, whose controller may be restarting just now.

    Raises:
        LaunchError: It does not answer for minutes.
    """
    for _ in range(TRIES - 1):
        with suppress(LaunchError):
            return _of_this_turn(job_id)
        time.sleep(PATIENCE_S)
    return _of_this_turn(job_id)


TRIES, PATIENCE_S = 12, 10.0


def _of_this_turn(job_id: str) -> Job:
    """The job; REQUEUED where SLURM has given this turn of it up, though the next one may be
    running already."""
    given_up = client.restarts(job_id) > _turn()
    job = client.queue(f"--jobs={job_id}")[0]
    return replace(job, state="REQUEUED") if given_up else job


def _turn() -> int:
    """How many times the job had gone back into the queue when this turn of it began."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0"))


def _said_by_slurm(run: Run, job_id: str) -> tuple[str, int]:
    """What srun and slurmstepd said in this turn of the job, and how long their log is now."""
    log = job_folder(run) / f"{job_id}_0_log.err"
    said = log.read_bytes() if log.is_file() else b""
    turns = [
        r.get("log_size", 0)
        for r in jobs.events(run)
        if r["event"] == "ended" and r["job_id"] == job_id
    ]
    return said[max(turns, default=0) :].decode(errors="replace"), len(said)


_CAUSES: list[tuple[re.Pattern[str], Record]] = [
    (
        re.compile(r"oom[-_ ]?kill|out of memory|exceeded (job )?memory limit", re.IGNORECASE),
        {
            "reason": EndReason.out_of_memory.value,
            "message": "SLURM ended it for lack of memory: raise cluster.mem_gb",
        },
    ),
    (
        re.compile(r"node failure", re.IGNORECASE),
        {"reason": EndReason.node_fail.value, "message": "one of its nodes failed"},
    ),
]
"""What only SLURM knows, by its words for it; they differ with its version and with what watches
the memory."""


def _attempts_of_turn(run: Run, job_id: str, started: float) -> list[int]:
    """The attempts that this turn of the job made. Rank 0 and the batch script share a node and so
    a clock."""
    starts = [r for r in run.attempts() if r["event"] == "start" and r["time"] >= started]
    return [
        r["attempt"] for r in starts if (r.get("job_id"), r.get("turn", 0)) == (job_id, _turn())
    ]


def _end_of_turn(run: Run, ours: list[int], code: int, cause: Record | None) -> Record | None:
    """The end record of the last of these attempts, written here where its processes could not."""
    if not ours:
        return None
    # the ranks that were left only know that they lost one
    if cause:
        told_by_ranks = {EndReason.crash.value, EndReason.hang.value}
        reason = EndReason(cause["reason"])
        close_attempt(run, reason, cause["message"], attempt=ours[-1], instead_of=told_by_ranks)
    close_attempt(
        run, EndReason.crash, f"its processes are gone, srun ended with {code}", attempt=ours[-1]
    )
    return next(r for r in run.attempts() if r["event"] == "end" and r["attempt"] == ours[-1])


def _may_go_on(run: Run, end: Record | None, job: Job) -> Verdict:
    if jobs.is_cancelled(run) or (end and end["reason"] == EndReason.cancelled.value):
        return Verdict(False, "it was told to stop")
    # a requeue would bring a job back that was cancelled
    if job.state != RUNNING:
        return Verdict(False, f"SLURM is ending the job ({job.state})")
    return verdict(run)


def _go_on(run: Run, job_id: str) -> None:
    if run.experiment.cluster.requeue:
        # In a session of its own: SLURM ends the processes of this job as soon as it accepts.
        done = subprocess.run(["scontrol", "requeue", job_id], start_new_session=True)
        # accepted, or ended by the requeue that it asked for
        if done.returncode <= 0:
            return
        print(
            f"{run.name}: this cluster lets no job go back into the queue; its successor is"
            " submitted",
            flush=True,
        )
    with jobs.submission_lock(run) as lock:
        if submission.the_one_live_job(run, besides=job_id) is None:
            jobs.note(run, "submitted", job_id=submission.send(run, [], lock))


def main(arguments: list[str]) -> int:
    directory, code, started = arguments
    try:
        return finish(
            Run.load(Path(directory)), int(code), float(started), os.environ["SLURM_JOB_ID"]
        )
    except AntiOversmoothError as err:
        print(f"{directory}: the run does not go on by itself: {err}", file=sys.stderr)
        return int(code) or 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
