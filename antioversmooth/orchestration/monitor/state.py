"""The state of runs: one function from run directories, one squeue and at most one sacct.

The directory decides what it can (a result means done, whatever SLURM says); squeue speaks for
every job that SLURM's controller still remembers; accounting, which lags and often is not there,
only for jobs that it has forgotten.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from antioversmooth import files, runs
from antioversmooth.errors import LaunchError
from antioversmooth.orchestration.slurm import client, jobs
from antioversmooth.orchestration.slurm.client import RUNNING, Job, Stage
from antioversmooth.orchestration.slurm.script import job_name
from antioversmooth.runs import Run, RunState
from antioversmooth.runs.journal import EndReason, Record


class Phase(Enum):
    """Where a run stands: `runs.RunState`, told apart by what the scheduler knows and by how the
    last attempt ended."""

    missing = "missing"
    """Never launched."""
    pending = "pending"
    held = "held"
    requeued = "requeued"
    """It has run before and waits for its next turn."""
    running = "running"
    hung = "hung"
    """SLURM says that it runs, but it has given no sign of life for longer than its ranks wait for
    each other."""
    preempted = "preempted"
    timed_out = "timed out"
    node_failure = "node failure"
    out_of_memory = "out of memory"
    failed = "failed"
    cancelled_pending = "cancelled pending"
    cancelled_running = "cancelled running"
    stopped = "stopped"
    """It ended in good order and can go on: at a step limit, or by Ctrl-C."""
    lost = "lost"
    """A job was submitted, and neither SLURM nor the directory knows how it ended."""
    unknown = "unknown"
    """SLURM does not answer."""
    done = "done"


LIVE = frozenset({Phase.pending, Phase.held, Phase.requeued, Phase.running, Phase.hung})
"""Phases in which there is a job or a process for the run."""


@dataclass(frozen=True)
class State:
    """The state of one run."""

    phase: Phase
    detail: str = ""
    """In words: why it waits, until when, how it ended."""
    job_id: str | None = None
    nodes: str = ""

    @property
    def is_live(self) -> bool:
        """Whether there is a job or a process for the run."""
        return self.phase in LIVE

    @property
    def words(self) -> str:
        """Phase and detail for people."""
        return f"{self.phase.value}: {self.detail}" if self.detail else self.phase.value


def states(wanted: Sequence[Run], *, now: float | None = None) -> dict[str, State]:
    """The state of each run, by its id."""
    now = time.time() if now is None else now
    on_slurm = [run for run in wanted if is_on_slurm(run)]
    try:
        queue = _newest_by_name(client.queue()) if on_slurm else {}
    except LaunchError as err:
        return {run.id: _without_slurm(run, str(err), now) for run in wanted}
    forgotten = {
        run.id: jobs.newest_job(run)
        for run in on_slurm
        if job_name(run) not in queue and not run.result()
    }
    ended = client.accounting(job_id for job_id in forgotten.values() if job_id)
    found = {}
    for run in wanted:
        job = queue.get(job_name(run)) or ended.get(forgotten.get(run.id) or "")
        found[run.id] = _on_slurm(run, job, now) if run in on_slurm else _local(run, now)
    return found


def is_on_slurm(run: Run) -> bool:
    """Whether the run was launched on SLURM, or ever had a job there."""
    intent = files.read_json(run.dir / "intent.json") or {}
    return intent.get("backend") == "slurm" or (run.dir / "jobs.jsonl").exists()


def _newest_by_name(queue: Iterable[Job]) -> dict[str, Job]:
    """For each name its live job, else the newest."""
    in_order = sorted(queue, key=lambda job: (job.stage is not Stage.over, job.number))
    return {job.name: job for job in in_order}


def _local(run: Run, now: float) -> State:
    phases = {
        RunState.missing: Phase.missing,
        RunState.submitted: Phase.stopped,
        RunState.running: Phase.running,
        RunState.done: Phase.done,
    }
    known = phases.get(runs.state(run, now=now))
    ends = [r for r in run.attempts() if r["event"] == "end"]
    return State(known) if known else _as_it_ended(run, ends[-1] if ends else {})


def _without_slurm(run: Run, why: str, now: float) -> State:
    local = _local(run, now)
    return (
        local
        if local.phase in (Phase.done, Phase.running)
        else State(Phase.unknown, why, jobs.newest_job(run))
    )


def _on_slurm(run: Run, job: Job | None, now: float) -> State:
    if run.result() is not None:
        return State(Phase.done)
    if job is None:
        return _untold(run)
    if job.stage is Stage.over:
        return _over(run, job)
    return _waiting(run, job) if job.stage is Stage.waiting else _active(run, job, now)


def _waiting(run: Run, job: Job) -> State:
    if job.state in ("REQUEUE_HOLD", "SPECIAL_EXIT") or "held" in job.reason.lower():
        return State(Phase.held, in_words(job), job.id)
    ran_before = any(str(r.get("job_id")) == job.id for r in [*run.attempts(), *_endings(run)])
    return State(Phase.requeued if ran_before else Phase.pending, in_words(job), job.id)


def _active(run: Run, job: Job, now: float) -> State:
    attempts = [r for r in run.attempts() if str(r.get("job_id")) == job.id]
    if job.state != RUNNING:
        why = ", for it was cancelled" if jobs.is_cancelled(run) else ""
        return State(Phase.running, f"{job.state.lower()}{why}", job.id, job.nodes)
    begun = [r["time"] for r in attempts if r["event"] == "start" and r["time"] >= _started(job)]
    # the lines of `cluster.setup` may take long
    if not begun:
        return State(Phase.running, "its processes are starting", job.id, job.nodes)
    silent_s = now - max(_heartbeat(run), *begun)
    if silent_s > run.experiment.runtime.timeout_s:
        return State(
            Phase.hung, f"no sign of life for {silent_s:.0f} s on {job.nodes}", job.id, job.nodes
        )
    return State(Phase.running, "", job.id, job.nodes)


def _started(job: Job) -> float:
    """When this turn of an active job began, in seconds since 1970; SLURM tells it in local
    time."""
    try:
        return datetime.fromisoformat(job.start).timestamp()
    except ValueError:
        # squeue prints N/A
        return 0.0


def _heartbeat(run: Run) -> float:
    try:
        return (run.dir / "heartbeat").stat().st_mtime
    except FileNotFoundError:
        return 0.0


_ENDED = {
    "PREEMPTED": Phase.preempted,
    "TIMEOUT": Phase.timed_out,
    "DEADLINE": Phase.timed_out,
    "NODE_FAIL": Phase.node_failure,
    "BOOT_FAIL": Phase.node_failure,
    "OUT_OF_MEMORY": Phase.out_of_memory,
}


def _over(run: Run, job: Job) -> State:
    attempts = [r for r in run.attempts() if str(r.get("job_id")) == job.id]
    if job.state == "CANCELLED":
        phase = Phase.cancelled_running if attempts or job.nodes else Phase.cancelled_pending
        return State(phase, f"job {job.id} was cancelled", job.id, job.nodes)
    if job.state in _ENDED:
        return State(_ENDED[job.state], f"job {job.id} ended as {job.state}", job.id, job.nodes)
    told = _told_ending(run, job.id)
    if told is None:
        where = (
            ""
            if attempts
            else ", before its processes began: on a broken node, or in a line of cluster.setup"
        )
        return State(Phase.failed, f"job {job.id} ended as {job.state}{where}", job.id, job.nodes)
    return _as_it_ended(run, told, job)


def _untold(run: Run) -> State:
    """SLURM knows nothing (any more): what the directory says."""
    job_id = jobs.newest_job(run)
    if jobs.is_cancelled(run):
        phase = Phase.cancelled_running if run.attempts() else Phase.cancelled_pending
        return State(phase, "cancelled", job_id)
    if job_id is None:
        return State(Phase.missing)
    told = _told_ending(run, job_id)
    return (
        _as_it_ended(run, told)
        if told
        else State(Phase.lost, f"SLURM knows nothing of job {job_id}", job_id)
    )


def _endings(run: Run) -> list[Record]:
    return [r for r in jobs.events(run) if r["event"] == "ended"]


def _told_ending(run: Run, job_id: str) -> Record | None:
    """The record that says how the newest attempt of a job ended, if there is one."""
    records = [
        r for r in run.attempts() if r["event"] == "start" and str(r.get("job_id")) == job_id
    ]
    numbers = {r["attempt"] for r in records}
    ends = [r for r in run.attempts() if r["event"] == "end" and r["attempt"] in numbers]
    noted = [r for r in _endings(run) if r["job_id"] == job_id and "attempt" not in r]
    return max([*ends, *noted], key=lambda r: r["time"], default=None)


_REASONS = {
    EndReason.preempted: Phase.preempted,
    EndReason.timeout: Phase.timed_out,
    EndReason.node_fail: Phase.node_failure,
    EndReason.out_of_memory: Phase.out_of_memory,
    EndReason.cancelled: Phase.stopped,
}


def _as_it_ended(run: Run, record: Record, job: Job | None = None) -> State:
    """The state that a record of an end tells: of an attempt, or of a job that did not get to
    one."""
    reason = record.get("reason")
    phase = _REASONS.get(EndReason(reason), Phase.failed) if reason else Phase.failed
    told = (
        f"its processes ended with exit code {record['code']}"
        if "code" in record
        else "it ended without a word"
    )
    detail = str(record.get("message") or reason or told)
    return State(phase, detail, job.id if job else jobs.newest_job(run), job.nodes if job else "")


_WORDS = {
    "None": "SLURM has not looked at it yet",
    "Priority": "jobs of higher priority are before it",
    "Resources": "it is next, and waits for nodes to come free",
    "Dependency": "a run that it needs is not finished",
    "DependencyNeverSatisfied": "the job that it waits for did not succeed: launch again",
    "BeginTime": "SLURM lets a requeued job wait for a moment",
    "JobHeldUser": "you hold it (scontrol release {id})",
    "JobHeldAdmin": "an administrator holds it",
    "launch failed requeued held": (
        "its node could not start it (scontrol release {id} lets it try again)"
    ),
    "job requeued in held state": "it was put back and is held (scontrol release {id})",
    "PartitionNodeLimit": "it wants more nodes than the partition gives to one job",
    "PartitionTimeLimit": "cluster.time_min is longer than the partition allows",
    "PartitionConfig": "it wants more than the partition has",
    "PartitionDown": "the partition is down",
    "PartitionInactive": "the partition is inactive",
    "ReqNodeNotAvail": "nodes that it needs are down, drained or reserved",
    "Reservation": "it waits for its reservation",
    "Licenses": "it waits for licences",
    "BadConstraints": "no node has what cluster.constraint asks for",
    "InvalidAccount": "cluster.account is not one of yours",
    "InvalidQOS": "cluster.qos is not one of yours",
}


def in_words(job: Job) -> str:
    """Why a job waits, for people, with SLURM's word in brackets and the time from which it may
    start."""
    word = job.reason.strip("()").split(",")[0].replace("_", " ")
    if word.startswith(("QOS", "Assoc", "MaxCpuPer", "MaxJobs")):
        text = "a limit of your account or quality of service is reached"
    else:
        text = _WORDS.get(word, "it waits").format(id=job.id)
    when = "" if job.start in ("N/A", "") else f", not before {job.start}"
    return f"{text} [{word}]{when}"
