"""SLURM's clients: one squeue for all jobs, one sacct for those that squeue has forgotten."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from antioversmooth.errors import LaunchError
from antioversmooth.orchestration.slurm.environment import plain_environment


class Unreachable(LaunchError):
    """SLURM's controller does not answer now, and may in a moment."""


class LimitReached(LaunchError):
    """A limit on jobs in the queue is reached: SLURM accepts the job once others have ended."""

    def __init__(self, message: str, limit: str) -> None:
        super().__init__(message)
        self.limit = limit
        """SLURM's word for it, as AssocMaxSubmitJobLimit."""


class Stage(Enum):
    """Where a job is in its life."""

    waiting = "waiting"
    active = "active"
    over = "over"


RUNNING = "RUNNING"
"""SLURM's word for a job that runs and that nobody is ending."""
_WAITING = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
_OVER = {
    "COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "DEADLINE", "NODE_FAIL", "BOOT_FAIL",
    "OUT_OF_MEMORY", "PREEMPTED", "REVOKED",
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One job as SLURM tells it."""

    id: str
    """A number: `queue` leaves out jobs of arrays (7_1) and of several parts (7+1)."""
    name: str
    state: str
    """SLURM's word: PENDING, RUNNING, ..., without what follows it (CANCELLED by 1000)."""
    reason: str
    """Why it waits, in SLURM's word; None where it does not."""
    nodes: str
    """Nodes that it has or had, as node[1-2]; empty while it waits."""
    start: str
    """When it started, or is expected or allowed to; N/A where SLURM does not know."""

    @property
    def number(self) -> int:
        """The id, to put jobs in the order of their submission."""
        return int(self.id)

    @property
    def stage(self) -> Stage:
        """Its stage; of SLURM's many states, those neither waiting nor over are active."""
        if self.state in _WAITING:
            return Stage.waiting
        return Stage.over if self.state in _OVER else Stage.active


def queue(*options: str) -> list[Job]:
    """This user's jobs that SLURM's controller remembers, also some minutes after their end.

    Args:
        options: Further options of squeue, such as `--name=...`.

    Raises:
        LaunchError: The controller does not answer.
    """
    lines = _ask(
        "squeue", "--me", "--states=all", "--noheader", "--format=%i|%T|%r|%N|%S|%j", *options
    )
    jobs = []
    for line in lines.splitlines():
        fields = line.strip().split("|", 5)
        if len(fields) == 6 and fields[0].isdecimal():
            job_id, state, reason, nodes, start, name = fields
            jobs.append(Job(job_id, name, state, reason, nodes, start))
    return jobs


def restarts(job_id: str) -> int:
    """How many times a job that is not over has gone back into the queue.

    Raises:
        LaunchError: The controller does not answer.
    """
    return int(_ask("squeue", "--noheader", f"--jobs={job_id}", "--Format=RestartCnt").strip() or 0)


def accounting(job_ids: Iterable[str]) -> dict[str, Job]:
    """How those jobs ended, by id, as far as there is accounting.

    It lags behind the controller, so only its final states count.
    """
    wanted = ",".join(job_ids)
    if not wanted:
        return {}
    fields = "--format=JobIDRaw,State,NodeList,Start,JobName"
    command = ("sacct", "--allocations", "--noheader", "--parsable2", fields)
    try:
        lines = _ask(*command, f"--jobs={wanted}")
    except LaunchError:
        # clusters without accounting are common, and the run directory goes a long way
        return {}
    ended = {}
    for line in lines.splitlines():
        job_id, state, nodes, start, name = line.split("|", 4)
        job = Job(job_id, name, state.partition(" ")[0], "None", nodes, start)
        if job.stage is Stage.over:
            ended[job_id] = job
    return ended


_GONE = ("down", "drain", "fail", "maint", "unk", "inval", "future", "error")
"""Beginnings of the states of nodes that run no further job; `*` at the end: no response."""


def count_nodes(partition: str | None) -> tuple[int, int]:
    """How many nodes of a partition are up, and how many there are; None: the default partition."""
    up = total = 0
    for line in _ask("sinfo", "--noheader", "--Node", "--format=%P|%T").splitlines():
        # for example `main*|idle`
        name, _, state = line.strip().partition("|")
        if name.rstrip("*") == partition or (partition is None and name.endswith("*")):
            total += 1
            up += not state.startswith(_GONE) and not state.endswith("*")
    return up, total


def cancel(job_ids: Iterable[str]) -> None:
    """Has SLURM end these jobs; those that are over already stay as they are."""
    ids = list(job_ids)
    if ids:
        _ask("scancel", *ids)


def _ask(*command: str) -> str:
    """Output of a SLURM client, independent of the options in the user's environment."""
    try:
        done = run_client(*command, timeout=60, env=plain_environment())
    except subprocess.TimeoutExpired as err:
        raise Unreachable(f"SLURM did not answer {command[0]} within a minute") from err
    if done.returncode:
        raise refusal(f"SLURM refuses {command[0]}", done.stderr)
    return done.stdout


def run_client(*command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a SLURM client to its end.

    Args:
        options: Further arguments of `subprocess.run`.
    """
    try:
        return subprocess.run(command, capture_output=True, text=True, **options)
    except FileNotFoundError as err:
        raise LaunchError(
            f"there is no {command[0]} on PATH: this is not a machine of a SLURM cluster"
        ) from err


def refusal(what: str, stderr: str) -> LaunchError:
    """The error that a SLURM client's complaint makes: `what`, and why in its words."""
    why = error_text(stderr)
    away = any(sign in why for sign in ("Unable to contact", "timed out", "connect failure"))
    return Unreachable(f"{what}: {why}") if away else LaunchError(f"{what}: {why}")


_LIMIT_WORD = re.compile(r"\b(?:Assoc|QOS|Max|Grp)[A-Za-z]+")
"""SLURM's words for limits: AssocMaxSubmitJobLimit, MaxSubmitJobsPerAccount, QOSGrpCpuLimit."""
_LIMIT_TEXTS = {
    "job submit limit": "submitted jobs",
    "too many simultaneous jobs": "submitted jobs",
    "unable to accept job": "MaxJobCount",
    "Resource temporarily unavailable": "MaxJobCount",
}
"""Texts of sbatch, or of a site's filter before it, without such a word."""


def submit_limit(why: str) -> str:
    """The limit on jobs in the queue that SLURM refuses a job for; empty for other reasons.

    A limit on the size of one job is another reason: such a job is never accepted. SLURM's sentence
    on an "accounting/QOS policy" names both kinds, and only the word before it tells which.
    """
    if words := _LIMIT_WORD.findall(why):
        return next((word for word in words if "Submit" in word or word == "MaxJobCount"), "")
    texts = (limit for text, limit in _LIMIT_TEXTS.items() if text.lower() in why.lower())
    return next(texts, "")


def error_text(stderr: str) -> str:
    """The error message of a SLURM client, without its prefixes."""
    lines = [line.split("error: ", 1)[-1].strip() for line in stderr.splitlines() if line.strip()]
    return "; ".join(dict.fromkeys(lines)) or "no reason given"
