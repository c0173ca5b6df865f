"""Ends a batch script, which calls it with RUN_DIR EXIT_CODE STARTED.

The processes of a run do not decide whether their job is requeued: they may be dead, and a requeue
kills the process that asks for it. The batch script outlives them, and decides by the run
directory.
"""

from __future__ import annotations

import os
import re
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from antioversmooth.errors import AntiOversmoothError, LaunchError
from antioversmooth.orchestration.notify import events
from antioversmooth.orchestration.slurm import client, submission
from antioversmooth.orchestration.slurm.client import RUNNING, Job
from antioversmooth.orchestration.slurm.retry_budget import RetryDecision, retry_decision
from antioversmooth.orchestration.slurm.script import job_folder
from antioversmooth.redact import redact
from antioversmooth.runs import Run
from antioversmooth.runs.attempts import Attempt, EndReason
from antioversmooth.runs.code import require_launched_code
from antioversmooth.runs.jobs import EventKind, append_event
from antioversmooth.runs.record import RunRecord
from antioversmooth.text import one_line


def finish(run: Run, code: int, started: float, job_id: str) -> int:
    """Exit code of the batch script; gives the run another turn if it may have one.

    Args:
        code: Exit code of srun, which is the highest of its tasks.
        started: When this turn of the job began, in seconds since 1970.
        job_id: The job that this batch script belongs to.
    """
    record = RunRecord.read(run)
    if record.result is not None:
        events.run_over(run, _say)
        return 0
    job = query_with_retries(job_id)
    code, setup = read_stage(job_folder(run), job_id, code)
    log, size = _read_job_log(record, job_id)
    cause = find_cause(log)
    ours = _attempts_of_turn(record, job_id, started)
    if ours:
        _close(run, ours[-1], code, cause)
        facts: dict[str, Any] = {"attempt": ours[-1].number}
    else:
        facts = {"reason": cause.reason.value, "message": cause.message} if cause else {}
        facts = {"message": setup} if setup else facts
    ended = {"job_id": job_id, "code": code, "state": job.state, "log_size": size}
    append_event(run.jobs_path, EventKind.ended, **ended, **facts)
    record = RunRecord.read(run)
    decision = _may_go_on(record, ours[-1].number if ours else None, started, job)
    goes_on = f"goes on: {'yes' if decision.again else 'no'}: {decision.why}"
    print(f"{run.name}: {setup or f'srun ended with {code}'}; {goes_on}", flush=True)
    if decision.again:
        requeue(run, job_id)
    elif decision.event:
        events.run_ended(run, decision.event, decision.why, _say)
    # 0 would start the runs that wait for this one
    return code or os.EX_TEMPFAIL


def read_stage(folder: Path, job_id: str, code: int) -> tuple[int, str]:
    """Exit code of srun, and an empty text; where srun did not start, why.

    Args:
        folder: Of the job's raw output.
        code: Exit code of the shell of both, which is that of srun unless a trap changed it.
    """
    path = folder / f"{job_id}_stage.txt"
    # without space for it there is none
    stage, _, rest = (path.read_text(errors="replace") if path.is_file() else "").partition(" ")
    if stage.strip() == "setup":
        line = f" at `{redact(one_line(rest))}`" if rest.strip() else ""
        # 2 would be a process that cannot run until a person fixes something
        return 1, f"cluster.setup ended the job's shell{line} with exit code {code}, before srun"
    if stage.strip() == "hosts":
        said = redact(one_line(rest)).strip() or "nothing"
        return 1, f"scontrol names no host of the job, so srun did not start; it says: {said}"
    return int(rest) if rest.strip().isdecimal() else code, ""


def _say(line: str) -> None:
    print(line, flush=True)


TRIES, RETRY_EVERY_S = 12, 10.0


def query_with_retries(job_id: str) -> Job:
    """The job in SLURM's words; its controller may be restarting just now.

    Raises:
        LaunchError: It does not answer for minutes.
    """
    for _ in range(TRIES - 1):
        with suppress(LaunchError):
            return _query(job_id)
        time.sleep(RETRY_EVERY_S)
    return _query(job_id)


def _query(job_id: str) -> Job:
    """The job; its state is REQUEUED where SLURM has given up this turn of it.

    The next turn may be running by then.
    """
    is_given_up = client.restarts(job_id) > _turn()
    jobs = client.jobs_numbered([job_id]) or client.jobs_shown([job_id])
    if not jobs:
        raise LaunchError(f"SLURM does not list job {job_id}, which runs this")
    return replace(jobs[0], state="REQUEUED") if is_given_up else jobs[0]


def _turn() -> int:
    """Number of times that the job had been requeued when this turn of it began."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0"))


def _read_job_log(record: RunRecord, job_id: str) -> tuple[str, int]:
    """The output of srun and slurmstepd in this turn of the job, and the size of their log now."""
    log = job_folder(record.run) / f"{job_id}_0_log.err"
    content = log.read_bytes() if log.is_file() else b""
    ended = [event for event in record.events if event.kind is EventKind.ended]
    earlier = [event.log_size for event in ended if event.job_id == job_id]
    return content[max(earlier, default=0) :].decode(errors="replace"), len(content)


class Cause(NamedTuple):
    """A reason for an end that only SLURM knows, and its words in the log of any version."""

    pattern: re.Pattern[str]
    reason: EndReason
    message: str


_CAUSES = [
    Cause(
        re.compile(r"oom[-_ ]?kill|out of memory|exceeded (job )?memory limit", re.IGNORECASE),
        EndReason.out_of_memory,
        "SLURM ended it for lack of memory: raise cluster.mem_gb",
    ),
    Cause(re.compile("node failure", re.IGNORECASE), EndReason.node_fail, "a node failed"),
]


def find_cause(log: str) -> Cause | None:
    """The reason for an end that SLURM gives in a job's log; None without one."""
    return next((cause for cause in _CAUSES if cause.pattern.search(log)), None)


def _attempts_of_turn(record: RunRecord, job_id: str, started: float) -> list[Attempt]:
    """The attempts of this turn of the job. Rank 0 and the batch script share a clock."""
    return [
        attempt
        for attempt in record.attempts_of_job(job_id)
        if attempt.started >= started and attempt.turn == _turn()
    ]


def _close(run: Run, attempt: Attempt, code: int, cause: Cause | None) -> None:
    """Records the end of an attempt where its processes could not, or did not know its cause."""
    if cause:
        # ranks only know that they lost another one
        run.close_attempt(
            cause.reason,
            cause.message,
            number=attempt.number,
            instead_of={EndReason.crash, EndReason.hang},
        )
    message = f"its processes are gone, srun ended with {code}"
    run.close_attempt(EndReason.crash, message, number=attempt.number)


def _may_go_on(record: RunRecord, number: int | None, started: float, job: Job) -> RetryDecision:
    """Whether the run gets another turn.

    Args:
        number: Number of the attempt that ended; None where the turn made none.
        started: When the turn began, in seconds since 1970.
    """
    reasons = {attempt.number: attempt.reason for attempt in record.attempts}
    is_cancelled = number is not None and reasons[number] is EndReason.cancelled
    if record.is_cancelled or is_cancelled:
        return RetryDecision(False, "it was cancelled")
    newest = record.attempts[-1] if record.attempts else None
    # two jobs that both go back into the queue would take the run from each other for ever
    if newest and newest.job_id != job.id and (number is not None or newest.started >= started):
        return RetryDecision(False, f"attempt {newest.number}, of another job, has taken it over")
    # a requeue would bring a job back that was cancelled
    if job.state != RUNNING:
        return RetryDecision(False, f"SLURM is ending the job ({job.state})")
    return retry_decision(record)


def requeue(run: Run, job_id: str) -> None:
    """Puts the job back into the queue, or submits its successor where the cluster forbids that."""
    if run.experiment.cluster.requeue:
        refused = client.requeue(job_id)
        if not refused:
            return
        goes_on = "this cluster does not requeue jobs; submitting another"
        print(f"{run.name}: {refused}: {goes_on}", flush=True)
    with submission.submission_lock(run) as lock:
        if submission.live_job(run, replaced_job_id=job_id) is None:
            submission.submit_script(run, [], lock, replaced_job_id=job_id)


def main(arguments: list[str]) -> int:
    directory, code, started = arguments
    try:
        require_launched_code(Path(directory))
        return finish(
            Run.load(Path(directory)), int(code), float(started), os.environ["SLURM_JOB_ID"]
        )
    except AntiOversmoothError as err:
        print(f"{directory}: the run does not go on by itself: {err}", file=sys.stderr)
        return int(code) or 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
