"""The short job on the profile's nodes: submitted, watched, signalled, and ended in time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from antioversmooth import files
from antioversmooth.config import ClusterConfig
from antioversmooth.errors import LaunchError
from antioversmooth.finding import Finding, Level
from antioversmooth.orchestration.doctor import gathering, turn
from antioversmooth.orchestration.monitor.pending import is_held
from antioversmooth.orchestration.slurm import client, script
from antioversmooth.orchestration.slurm.client import Job, Stage
from antioversmooth.orchestration.slurm.commands import Unreachable
from antioversmooth.orchestration.snapshot import PROJECT

Say = Callable[[str], None]
"""Shows one line of progress."""

LIMIT_MIN, MODEL_MIN = 10, 2
"""Minutes of the job's time limit, and those for each model, where the profile has no lower one."""
SIGNAL_DELAY_S = 60
LOOK_S, ASK_S = 0.5, 5.0
"""Seconds between two looks into the folder, and between two questions to SLURM."""
REQUEUE_MIN, SLACK_MIN = 15.0, 5.0
"""Minutes that a requeued job may wait for its next turn, and may run beyond its time limit."""
PATIENCE_S = 20.0
"""Seconds after which ranks that wait for the signal get it, although others do not wait yet."""


@dataclass(frozen=True)
class JobEnd:
    """How the job ended."""

    id: str
    state: str
    """SLURM's word; empty where it has forgotten the job."""
    nodes: str
    """As node[1-2]; empty where it never ran."""
    problem: str = ""
    """Why doctor ended it; empty where it ended by itself."""
    advice: str = ""
    """Advice about that."""


def batch_job(
    cluster: ClusterConfig, folder: Path, num_models: int, paths: Sequence[Path] = ()
) -> script.BatchJob:
    """The job of a profile, as short as the probes need it, with no mail.

    Args:
        num_models: Models that it takes steps of.
        paths: Files and folders that the probes read or write.
    """
    limit_min = min(cluster.time_min, LIMIT_MIN + num_models * MODEL_MIN)
    short = replace(
        cluster,
        time_min=limit_min,
        signal_delay_s=min(cluster.signal_delay_s, SIGNAL_DELAY_S, 60 * limit_min - 1),
        mail_user=None,
    )
    return script.BatchJob(
        name=f"doctor-{cluster.name}",
        folder=folder,
        cluster=short,
        code=PROJECT,
        program=["-m", "antioversmooth.orchestration.doctor.rank", str(folder)],
        wait_s=60,
        after=["-m", "antioversmooth.orchestration.doctor.turn", str(folder)],
        paths=paths,
    )


def run_job(
    cluster: ClusterConfig,
    folder: Path,
    *,
    num_models: int,
    wait_min: float,
    say: Say,
    paths: Sequence[Path] = (),
) -> JobEnd:
    """Submits the job of the probes and returns when it is over; Ctrl-C cancels it.

    Args:
        folder: Holds the request.
        num_models: Models that it takes steps of.
        wait_min: Minutes after which it is cancelled, if it has not started.
        paths: As of `batch_job`.

    Raises:
        LaunchError: SLURM refuses the job.
    """
    job = batch_job(cluster, folder, num_models, paths)
    path = folder / turn.SCRIPT
    files.write_atomic(path, script.render(job))
    job_id = client.submit(str(path), what=f"doctor on {cluster.name}", name=job.name)
    say(f"job {job_id} submitted; Ctrl-C cancels it")
    try:
        run_min = job.cluster.time_min + SLACK_MIN
        return _Watch(job_id, folder, cluster.world_size, say).until(wait_min, run_min)
    except BaseException:
        _cancel(job_id, say)
        raise


def _cancel(job_id: str, say: Say) -> None:
    try:
        refused = client.cancel([job_id]).get(job_id, "")
    except Unreachable as err:
        refused = str(err)
    say(f"job {job_id} could not be cancelled: {refused}" if refused else f"job {job_id} cancelled")


def missing_turn(folder: Path, end: JobEnd) -> Iterator[Finding]:
    """The finding that a job did not end as it should: without its last lines, or a next turn."""
    first = files.read_mapping(folder / turn.FIRST_TURN)
    found = {finding.check for finding in gathering.read(folder / turn.FINDINGS)}
    if not first:
        ended = f"job {end.id} ended as {end.state or 'unknown'} on {end.nodes or 'no node'}"
        if any(folder.glob("*_log.*")):
            text = f"{ended} before its last line: {gathering.last_words(folder, [0])}"
            advice = f"does the node see {sys.prefix}? try the lines of cluster.setup there"
        else:
            unseen = f"its first node does not see {folder}, or cannot write there"
            text = f"{ended} and wrote no log: {unseen}"
            advice = "choose a folder that all nodes see with cluster.results=/path"
        yield Finding("job", Level.wrong, text, advice)
    elif first.get("requeue") and "requeue" not in found:
        text = f"SLURM accepted to requeue job {end.id}, and its next turn did not run"
        advice = "set cluster.requeue=false: a turn then submits its successor from the node"
        yield Finding("requeue", Level.wrong, text, advice)


_START = "after it was submitted (--wait)"
_TURN = "after a turn of it began"
_REQUEUE = "after it was requeued"


def _advise(job: Job, stage: str) -> str:
    """Advice about a job that was ended at this stage."""
    if is_held(job):
        return _advise_release(job)
    if stage == _START:
        return "wait longer (--wait), or name a partition that is free: cluster.partition=..."
    if stage == _REQUEUE:
        return "set cluster.requeue=false: a turn then submits its successor from the node"
    return "look at the logs of the probes"


def _advise_release(job: Job) -> str:
    return (
        f"release it while doctor waits (scontrol release {job.id}), or submit it without a hold:"
        " cluster.sbatch.hold=null"
    )


class _Watch:
    """Watches one job from its submission to its end."""

    def __init__(self, job_id: str, folder: Path, ranks: int, say: Say) -> None:
        self._id, self._folder, self._ranks, self._say = job_id, folder, ranks, say
        self._seen = ""
        self._nodes = ""
        self._progress = gathering.Progress(folder, say)
        self._first_waits_since: float | None = None
        self._is_signalled = False

    def until(self, wait_min: float, run_min: float) -> JobEnd:
        """Returns when the job is over, or is cancelled after the limit of what it is at.

        Args:
            wait_min: Minutes for its first start.
            run_min: Minutes for a turn.
        """
        limits = {_START: wait_min, _TURN: run_min, _REQUEUE: REQUEUE_MIN}
        stage, since, ask_at = _START, time.monotonic(), 0.0
        while True:
            now = time.monotonic()
            if now >= ask_at:
                ask_at = now + ASK_S
                job = self._ask()
                if job is None or job.stage is Stage.over:
                    return JobEnd(self._id, job.state if job else "", self._nodes)
                if self._stage(job) != stage:
                    stage, since = self._stage(job), now
                if now - since > 60 * limits[stage]:
                    _cancel(self._id, self._say)
                    problem = f"it was {self._seen} {limits[stage]:g} minutes {stage}"
                    advice = _advise(job, stage)
                    return JobEnd(self._id, job.state, self._nodes, problem, advice)
            self._progress.look()
            self._signal_if_awaited()
            time.sleep(LOOK_S)

    def _stage(self, job: Job) -> str:
        """The stage of a live job."""
        if not self._nodes:
            return _START
        return _REQUEUE if job.stage is Stage.waiting else _TURN

    def _ask(self) -> Job | None:
        """The job; None where SLURM has forgotten it. Says what has changed."""
        try:
            found = client.jobs_numbered([self._id]) or client.jobs_shown([self._id])
        except Unreachable as err:
            self._say(f"{err}; looking again")
            return Job(self._id, "", client.RUNNING, "None", "", "")
        job = found[0] if found else None
        if job is not None:
            self._nodes = job.nodes or self._nodes
            waits = f" [{job.reason}]" if job.stage is Stage.waiting else f" on {job.nodes}"
            seen = f"{job.state}{waits}"
            if seen != self._seen:
                release = f"; {_advise_release(job)}" if is_held(job) else ""
                self._say(f"job {self._id} is {seen}{release}")
            self._seen = seen
        return job

    def _signal_if_awaited(self) -> None:
        """Sends the warning signal of a time limit once all ranks wait for it."""
        if self._is_signalled:
            return
        waiting = sum(gathering.is_waiting(self._folder, rank) for rank in range(self._ranks))
        if not waiting:
            return
        now = time.monotonic()
        self._first_waits_since = self._first_waits_since or now
        if waiting == self._ranks or now - self._first_waits_since > PATIENCE_S:
            self._is_signalled = True
            self._say("all is probed; sending the warning signal")
            with suppress(LaunchError):
                client.send_signal(self._id, "USR2")
