"""The state of a run, and the one mapping from the end of an attempt to it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from antioversmooth.runs.attempts import EndReason


class RunState(Enum):
    """State of a run.

    A run directory alone (`RunRecord.status`) tells missing, stale, submitted, running, lost, done
    and how an attempt ended; SLURM refines the state of runs that were submitted to it.
    """

    missing = "missing"
    """It never began."""
    stale = "stale"
    """It never began, but a run of the same row and seed with another identity did."""
    submitted = "submitted"
    """It was submitted to SLURM, and no attempt of it has begun."""
    waiting = "waiting"
    """A launch asked for it, and it gets a job when a limit on jobs allows one."""
    pending = "pending"
    dependency_failed = "dependency failed"
    """Its job waits for one that failed, and will never start."""
    held = "held"
    requeued = "requeued"
    """It has run before and waits for its next turn."""
    running = "running"
    hung = "hung"
    """SLURM says that it runs, but for longer than `runtime.timeout_s` it gave no sign of life."""
    preempted = "preempted"
    timed_out = "timed out"
    node_failure = "node failure"
    out_of_memory = "out of memory"
    failed = "failed"
    """It crashed, hung or filled the disk, or its result is invalid."""
    cancelled_pending = "cancelled pending"
    cancelled_running = "cancelled running"
    stopped = "stopped"
    """It ended in good order before it was done: at a step limit, by Ctrl-C or a cancellation."""
    lost = "lost"
    """An attempt or a job of it is gone, and nothing tells how it ended."""
    unknown = "unknown"
    """SLURM does not answer."""
    done = "done"

    @property
    def never_began(self) -> bool:
        return self in (RunState.missing, RunState.stale)

    @property
    def is_live(self) -> bool:
        """Whether there is a job or a process for the run."""
        return self in _LIVE

    @property
    def is_failure(self) -> bool:
        """Whether a person has to look at it: the next launch may end in the same way."""
        return self in _FAILURES

    @property
    def is_resumable(self) -> bool:
        """Whether it ended early, and the next launch resumes it."""
        return self in _RESUMABLE


_LIVE = {
    RunState.pending,
    RunState.dependency_failed,
    RunState.held,
    RunState.requeued,
    RunState.running,
    RunState.hung,
}
_FAILURES = {RunState.failed, RunState.out_of_memory}
_RESUMABLE = {
    RunState.preempted,
    RunState.timed_out,
    RunState.node_failure,
    RunState.cancelled_running,
    RunState.stopped,
    RunState.lost,
}

AFTER_END = {
    # of a run without a result: the next start writes it from the last checkpoint
    EndReason.completed: RunState.stopped,
    EndReason.preempted: RunState.preempted,
    EndReason.timeout: RunState.timed_out,
    EndReason.crash: RunState.failed,
    EndReason.hang: RunState.failed,
    EndReason.out_of_memory: RunState.out_of_memory,
    EndReason.node_fail: RunState.node_failure,
    EndReason.disk_full: RunState.failed,
    EndReason.cancelled: RunState.stopped,
}
"""The state of a run whose newest attempt ended, by the reason of its end."""


@dataclass(frozen=True)
class RunStatus:
    """The status of one run; decisions read `state` and `reason`."""

    state: RunState
    detail: str = ""
    """For people: why it waits, until when, how it ended."""
    reason: EndReason | None = None
    """How its newest attempt ended."""
    job_id: str | None = None
    nodes: str = ""
    owner: str = ""
    """The other user whose job it is; empty for one's own."""

    @property
    def job(self) -> str:
        """Its job, for people: job 7, or job 7 of another user; empty without one."""
        owner = f" of {self.owner}" if self.owner else ""
        return f"job {self.job_id}{owner}" if self.job_id else ""

    def __str__(self) -> str:
        return f"{self.state.value}: {self.detail}" if self.detail else self.state.value
