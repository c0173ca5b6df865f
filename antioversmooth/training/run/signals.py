"""Reasons to stop, noticed by any rank and acted on by all ranks at the end of a step.

A signal handler only sets a flag. Everything else happens between two steps, where model, optimizer
and position are consistent and can be saved.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from types import FrameType

import torch
import torch.distributed as dist

from antioversmooth.training.run.distributed import Ranks

PARENT = "ANTIOVERSMOOTH_PARENT"
"""Environment variable: process id of the local launcher; the run stops when it is gone."""


class StepAction(IntEnum):
    """Action of all ranks at the end of a step: the highest that any of them requests."""

    proceed = 0
    save = 1
    cancelled = 2
    preempted = 3
    timeout = 4
    superseded = 5
    disk_full = 6
    crash = 7

    @property
    def stops(self) -> bool:
        return self > StepAction.save

    @property
    def saves(self) -> bool:
        """Whether the state is saved: not by a superseded attempt, nor where saving has failed."""
        return StepAction.save <= self <= StepAction.timeout


def action_for_signal(number: int, environment: Mapping[str, str], *, now: float) -> StepAction:
    """The action that a signal requests.

    SIGINT comes from a person. SIGTERM comes from a scheduler that needs the node, or from a local
    launcher that cancels. SIGUSR1 and SIGUSR2 are the scheduler's warning before the time limit or
    a preemption: the time limit, unless SLURM says that it is more than ten minutes away.
    """
    if number == signal.SIGINT or (number == signal.SIGTERM and "SLURM_JOB_ID" not in environment):
        return StepAction.cancelled
    if number == signal.SIGTERM:
        return StepAction.preempted
    limit = float(environment.get("SLURM_JOB_END_TIME", now))
    return StepAction.timeout if limit - now < 600 else StepAction.preempted


class StopRequest:
    """The most severe reason to stop that this process has noticed.

    Args:
        supervised: Whether the parent process supervises this one, as torchrun does and a shell
            does not.
    """

    def __init__(self, *, supervised: bool = False) -> None:
        self.action = StepAction.proceed
        self._owner = os.getpid()
        self._parent = os.getppid() if supervised else None
        self._launcher = int(os.environ.get(PARENT, "0"))

    def add(self, action: StepAction) -> None:
        self.action = max(self.action, action)

    def check_parents(self) -> None:
        """Requests a stop if launcher or supervisor is gone: nobody would collect the run."""
        orphaned = self._parent is not None and os.getppid() != self._parent
        if orphaned or (self._launcher and not is_alive(self._launcher)):
            self.add(StepAction.cancelled)

    @contextmanager
    def signal_handlers(self) -> Iterator[None]:
        """Handles signals within the block; in the main thread only, as Python requires."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
        before = {number: signal.signal(number, self._handle) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        # a forked child inherits the handler, but must not stop the run
        if os.getpid() == self._owner:
            self.add(action_for_signal(number, os.environ, now=time.time()))


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


class StepAgreement:
    """One action for all ranks, one step late: requests travel while the devices compute."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self._pending: dist.Work | None = None
        self._action = torch.zeros(1, dtype=torch.int64)

    def all_reduce_max(self, action: StepAction) -> StepAction:
        """Sends this rank's request; returns the highest of the step before.

        A single process gets its own request back at once.
        """
        if self.ranks.cpu_group is None:
            return action
        agreed = self.wait()
        self._action = torch.tensor([int(action)])
        self._pending = dist.all_reduce(
            self._action, dist.ReduceOp.MAX, group=self.ranks.cpu_group, async_op=True
        )
        return agreed

    def wait(self) -> StepAction:
        """The highest request of the last step that was sent."""
        if self._pending is None:
            return StepAction.proceed
        self._pending.wait()
        self._pending = None
        return StepAction(int(self._action))
