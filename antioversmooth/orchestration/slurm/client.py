"""Jobs: what SLURM says of them, and what it does with them.

The forms of its output are those of SLURM 21.08 to 25.11.
"""

from __future__ import annotations

import os
import pwd
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache

from antioversmooth.errors import LaunchError
from antioversmooth.orchestration.slurm import commands
from antioversmooth.orchestration.slurm.commands import Unreachable
from antioversmooth.orchestration.slurm.limits import submit_limit


class LimitReached(LaunchError):
    """A limit on jobs in the queue is reached: SLURM accepts the job once others have ended."""

    def __init__(self, message: str, limit: str) -> None:
        super().__init__(message)
        self.limit = limit
        """SLURM's word for it, as AssocMaxSubmitJobLimit."""


class Unanswered(LaunchError):
    """Only a look at the queue tells whether the job is there: sbatch does not."""


class Stage(Enum):
    """Where a job is in its life."""

    waiting = "waiting"
    active = "active"
    over = "over"


RUNNING = "RUNNING"
"""SLURM's word for a job that runs and that nobody is ending."""
ENDING = "COMPLETING"
"""SLURM's word for a job whose last processes are ending."""
_WAITING = {
    "PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD",
    "EXPEDITING",
}  # fmt: skip
_OVER = {
    "COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "DEADLINE", "NODE_FAIL", "BOOT_FAIL",
    "OUT_OF_MEMORY", "PREEMPTED",
}  # fmt: skip
"""Not REVOKED: another cluster of a federation runs the job."""


@dataclass(frozen=True)
class Job:
    """One job as SLURM describes it."""

    id: str
    """A number: jobs of arrays (7_1) and of several parts (7+1) are left out everywhere."""
    name: str
    state: str
    """SLURM's word: PENDING, RUNNING, ..., without what follows it (CANCELLED by 1000)."""
    reason: str
    """Why it waits, in SLURM's word; None where it does not."""
    nodes: str
    """Nodes that it has or had, as node[1-2]; empty while it waits."""
    start: str
    """When it started, or is expected or allowed to; N/A where SLURM does not know."""
    user: str = ""
    """The user whose job it is; empty where accounting alone knows the job."""

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

    @property
    def is_live(self) -> bool:
        """Whether it waits or runs."""
        return self.stage is not Stage.over

    @property
    def owner(self) -> str:
        """The other user whose job it is; empty for this user's."""
        return "" if self.user in own_names() else self.user

    def __str__(self) -> str:
        return f"job {self.id} of {self.owner}" if self.owner else f"job {self.id}"


@cache
def user_name() -> str:
    """Name by which SLURM calls this user: a number in a container that does not know its users."""
    number = os.geteuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


@cache
def own_names() -> frozenset[str]:
    """All names that may be this user's; a wrapper of the site's may go by the environment."""
    by_environment = {os.environ[key] for key in ("LOGNAME", "USER") if key in os.environ}
    return frozenset({"", user_name(), str(os.geteuid()), *by_environment})


_JOB = re.compile(
    r"(?P<id>\d+)\|(?P<state>[A-Z_]+)\|(?P<user>[^|]*)\|(?P<reason>[^|]*)\|(?P<nodes>[^|]*)"
    r"\|(?P<start>[^|]*)\|(?P<name>.*)"
)
_LIST = ("--states=all", "--noheader", "--format=%i|%T|%u|%r|%N|%S|%j")


def jobs_named(names: Iterable[str]) -> list[Job]:
    """Jobs of all users with these names that squeue lists, also some minutes after their end.

    Raises:
        LaunchError: The controller does not answer.
    """
    lists = [commands.ask("squeue", *_LIST, f"--name={some}") for some in _arguments(names)]
    return _jobs(lists)


def jobs_numbered(ids: Iterable[str]) -> list[Job]:
    """Jobs of all users with these ids that squeue lists; a site may cache its other lists.

    Raises:
        LaunchError: The controller does not answer.
    """
    lists = [commands.ask_about("squeue", *_LIST, f"--jobs={some}") for some in _arguments(ids)]
    return _jobs(lists)


def _jobs(lists: Iterable[str]) -> list[Job]:
    """The jobs in lists that squeue printed."""
    return [Job(**found.groupdict()) for said in lists for found in commands.matches(_JOB, said)]


ARGUMENT_BYTES = 100_000
"""Longest list that a command is given at once; Linux takes 128 KiB in one argument."""


def _arguments(words: Iterable[str]) -> Iterator[str]:
    """Lists of all the words, with commas between them, none of them too long for a command."""
    held: list[str] = []
    size = 0
    for word in words:
        if held and size + len(word) > ARGUMENT_BYTES:
            yield ",".join(held)
            held, size = [], 0
        held.append(word)
        size += len(word) + 1
    if held:
        yield ",".join(held)


ASKED_SINGLY = 20
"""The most jobs that are each asked for in a command of their own."""
_SHOWN = re.compile(r"JobId=(?P<id>\d+) JobName=(?P<name>.*)\s+UserId=(?P<user>[^(\n]+)\(\d+\)")
_SHOWN_FIELDS = {"state": "JobState", "reason": "Reason", "nodes": "NodeList", "start": "StartTime"}


def jobs_shown(ids: Iterable[str]) -> list[Job]:
    """Jobs of all users with these ids that scontrol shows, which wrappers of squeue do not hide.

    Raises:
        LaunchError: The controller does not answer.
    """
    wanted = set(ids)
    singly: list[tuple[str, ...]] = [(job_id,) for job_id in sorted(wanted)]
    calls = singly if len(wanted) <= ASKED_SINGLY else [()]
    said = "\n".join(commands.ask_about("scontrol", "show", "job", *call) for call in calls)
    return [job for job in _shown_jobs(said) if job.id in wanted]


def all_jobs_shown() -> list[Job]:
    """The jobs of all users that scontrol shows, which is much to ask of a busy controller.

    Raises:
        LaunchError: The controller does not answer.
    """
    return _shown_jobs(commands.ask_about("scontrol", "show", "job"))


def _shown_jobs(said: str) -> list[Job]:
    shown = map(_shown_job, re.split(r"^(?=JobId=)", said, flags=re.MULTILINE))
    return [job for job in shown if job is not None]


def _shown_job(text: str) -> Job | None:
    """The job of a paragraph of scontrol; None where it is another text."""
    found = _SHOWN.match(text)
    if found is None:
        return None
    rest = text[found.end() :]
    fields = {}
    for field, key in _SHOWN_FIELDS.items():
        value = re.search(rf"\s{key}=(\S*)", rest)
        fields[field] = value[1] if value and value[1] not in _NOTHING else ""
    return Job(**found.groupdict(), **{**fields, "start": fields["start"] or "N/A"})


_NOTHING = {"(null)", "None assigned", "Unknown"}
"""SLURM's words for a field without a value."""


def hides_other_users() -> bool:
    """Whether SLURM shows people none of the jobs of others (PrivateData).

    Raises:
        LaunchError: The controller does not answer.
    """
    found = re.search(
        r"^PrivateData\s*=\s*(.*)$", commands.ask("scontrol", "show", "config"), re.MULTILINE
    )
    return found is not None and bool({"jobs", "all"} & set(found[1].strip().split(",")))


def restarts(job_id: str) -> int:
    """How many times a job that is not over has gone back into the queue.

    Raises:
        LaunchError: The controller does not answer, or not with a number.
    """
    said = commands.ask("squeue", "--noheader", f"--jobs={job_id}", "--Format=RestartCnt")
    counts = [found[0] for found in commands.matches(re.compile(r"\d+"), said)]
    if not counts:
        raise LaunchError(
            f"SLURM does not say how often job {job_id} was requeued: {commands.joined_lines(said)}"
        )
    return int(counts[-1])


_ENDED = re.compile(
    r"(?P<id>\d+)\|(?P<state>[A-Z_]+)(?: [^|]*)?\|(?P<nodes>[^|]*)\|(?P<start>[^|]*)\|(?P<name>.*)"
)


def accounting(job_ids: Iterable[str]) -> dict[str, Job]:
    """How those jobs ended, by id, as far as there is accounting.

    It lags behind the controller, so only its final states count.
    """
    fields = "--format=JobIDRaw,State,NodeList,Start,JobName"
    command = ("sacct", "--allocations", "--noheader", "--parsable2", fields)
    try:
        lines = [commands.ask(*command, f"--jobs={some}") for some in _arguments(job_ids)]
    except LaunchError:
        # clusters without accounting are common, and the run directory goes a long way
        return {}
    found = (match.groupdict() for match in commands.matches(_ENDED, "\n".join(lines)))
    jobs = (Job(**job | {"nodes": _value(job["nodes"]), "reason": "None"}) for job in found)
    return {job.id: job for job in jobs if job.stage is Stage.over}


def _value(text: str) -> str:
    return "" if text in _NOTHING else text


def cancel(job_ids: Iterable[str]) -> dict[str, str]:
    """Has SLURM end these jobs; those that are over already stay as they are.

    Returns:
        Why a job goes on, by its id: SLURM's words where it is another user's, and the state of the
        job where scancel, which may be a site's wrapper, did nothing.

    Raises:
        Unreachable: The controller does not answer.
    """
    refused, said = {}, {}
    for job_id in job_ids:
        done = commands.run_client("scancel", job_id)
        over = re.search("Invalid job id|already complet", done.stderr)
        if (done.returncode and not over) or "denied" in done.stderr:
            error = commands.refusal(f"SLURM refuses to end job {job_id}", done)
            if isinstance(error, Unreachable):
                raise error
            refused[job_id] = commands.error_text(done)
        elif not over:
            said[job_id] = commands.error_text(done)
    for job in _still_alive(said):
        refused[job.id] = f"it is {job.state} after scancel, which says: {said[job.id]}"
    return refused


CANCEL_S = (0.0, 0.5, 1.0, 2.0)
"""Seconds before each look at jobs that were cancelled: most are ending at once."""


def _still_alive(job_ids: Iterable[str]) -> list[Job]:
    """Those jobs that go on some seconds after they were cancelled."""
    live = [*job_ids]
    jobs: list[Job] = []
    for seconds in CANCEL_S:
        if not live:
            break
        time.sleep(seconds)
        jobs = [job for job in jobs_shown(live) if job.is_live and job.state != ENDING]
        live = [job.id for job in jobs]
    return jobs


def requeue(job_id: str) -> str:
    """Puts a job back into the queue; returns why SLURM refuses, empty where it does not.

    A job that asks for itself is ended as soon as SLURM accepts, which may be before the answer.
    """
    done = commands.run_client("scontrol", "requeue", job_id, timeout=None, start_new_session=True)
    return commands.error_text(done) if done.returncode > 0 else ""


def send_signal(job_id: str, name: str) -> None:
    """Sends a signal to the tasks of a job, as SLURM sends the warning of a time limit.

    Raises:
        LaunchError: SLURM refuses, or does not answer.
    """
    commands.ask("scancel", f"--signal={name}", job_id)


def run_on_nodes(job_id: str, nodes: int, *command: str) -> str:
    """Output of a command that runs once on each node of a job, called from within the job.

    Args:
        nodes: Nodes of the job.

    Raises:
        LaunchError: It fails on one of them.
    """
    each = (f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1")
    return commands.ask("srun", f"--jobid={job_id}", *each, "--chdir=/", *command)


_SUBMITTED = re.compile(r"(\d+)(;\S+)?")


def submit(*arguments: str, what: str, name: str, pass_fds: Iterable[int] = ()) -> str:
    """Id of the job that sbatch submits.

    Of several lines that are ids it is the one that SLURM knows by the job's name, else the last.

    Args:
        arguments: Those of sbatch besides --parsable; the last one is the script's path.
        what: The beginning of the message of an error.
        name: The job's name.
        pass_fds: Descriptors that sbatch inherits.

    Raises:
        LimitReached: SLURM takes the job when others have ended.
        Unanswered: The job may be in the queue or not.
        LaunchError: SLURM refuses the job.
    """
    done = commands.run_client(
        "sbatch", "--parsable", *arguments, timeout=None, pass_fds=tuple(pass_fds)
    )
    # <id>;<cluster> where there are several
    ids = list(dict.fromkeys(found[1] for found in commands.matches(_SUBMITTED, done.stdout)))
    if ids and (done.returncode or len(ids) > 1):
        known = _with_name(name, ids)
        if known is None and done.returncode:
            raise Unanswered(
                f"{what}: {_UNANSWERED}: {commands.joined_lines(done.stdout + done.stderr)}"
            )
        ids = known or ([] if done.returncode else ids)
    if ids:
        return ids[-1]
    if done.returncode:
        refused = commands.refusal(f"{what}: SLURM refuses the job", done)
        limit = submit_limit(commands.error_text(done) + done.stdout)
        raise LimitReached(str(refused), limit) if limit else refused
    said = commands.joined_lines(done.stdout + done.stderr)
    raise Unanswered(f"{what}: sbatch gave no job id: {_UNANSWERED}: {said}")


_UNANSWERED = "the job may be in the queue or not; launch again, which looks for it"


def _with_name(name: str, ids: Iterable[str]) -> list[str] | None:
    """Those ids that are jobs of this name, in order; None where SLURM does not answer."""
    try:
        return sorted((job.id for job in jobs_shown(ids) if job.name == name), key=int)
    except LaunchError:
        return None


def test_only(script: str) -> str:
    """Why SLURM would not take a job with this script, in its words; empty where it would.

    Nothing is submitted.

    Raises:
        Unreachable: The controller does not answer.
    """
    done = commands.run_client("sbatch", "--test-only", timeout=None, input=script)
    refused = commands.refusal("SLURM refuses sbatch", done)
    if done.returncode and isinstance(refused, Unreachable):
        raise refused
    return commands.error_text(done) if done.returncode else ""
