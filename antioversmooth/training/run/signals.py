"""Ending early: what was noticed by any rank is agreed by all at a step boundary.

A signal handler only sets a flag. Everything else happens between two steps, where model, optimizer
and position fit together and can be saved.
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
"""Environment variable: process id of a local launcher, without which a run shall not go on."""


class Vote(IntEnum):
    """What a rank asks for at a step boundary; the highest one counts."""

    go_on = 0
    save = 1
    cancelled = 2
    preempted = 3
    timeout = 4
    superseded = 5
    disk_full = 6
    crash = 7

    @property
    def stops(self) -> bool:
        return self > Vote.save

    @property
    def saves(self) -> bool:
        """Whether the state shall be saved: not by an attempt that was replaced, nor where saving
        has failed."""
        return self in (Vote.save, Vote.cancelled, Vote.preempted, Vote.timeout)


def meaning(number: int, environment: Mapping[str, str], *, now: float) -> Vote:
    """What a signal says.

    SIGINT is a person. SIGTERM is a scheduler that needs the node, or under a local launcher that
    launcher's cancel. SIGUSR1 and SIGUSR2 are the scheduler's warning, ahead of the time limit or
    of a preemption: the limit, unless SLURM says that it is more than ten minutes away.
    """
    if number == signal.SIGINT or (number == signal.SIGTERM and "SLURM_JOB_ID" not in environment):
        return Vote.cancelled
    if number == signal.SIGTERM:
        return Vote.preempted
    limit = float(environment.get("SLURM_JOB_END_TIME", now))
    return Vote.timeout if limit - now < 600 else Vote.preempted


class StopRequest:
    """The gravest reason to stop that this process has noticed.

    Args:
        supervised: Whether the parent process started this one to watch over it, as torchrun does;
            a shell does not.
    """

    def __init__(self, *, supervised: bool = False) -> None:
        self.vote = Vote.go_on
        self._owner = os.getpid()
        self._parent = os.getppid() if supervised else None
        self._launcher = int(os.environ.get(PARENT, "0"))

    def set(self, vote: Vote) -> None:
        self.vote = max(self.vote, vote)

    def check_parents(self) -> None:
        """Asks to stop if the launcher, or what supervises this process, is gone: nobody would
        collect the run."""
        orphaned = self._parent is not None and os.getppid() != self._parent
        if orphaned or (self._launcher and not is_alive(self._launcher)):
            self.set(Vote.cancelled)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Takes signals meanwhile; in the main thread only, which is the only one that may."""
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
        # a forked child inherits the handler, but not the say
        if os.getpid() == self._owner:
            self.set(meaning(number, os.environ, now=time.time()))


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and waits to be collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


class Agreement:
    """One decision for all ranks, a step late: it travels between the CPUs while the devices
    compute the next step."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self._pending: dist.Work | None = None
        self._votes = torch.zeros(1, dtype=torch.int64)

    def on(self, vote: Vote) -> Vote:
        """The highest vote of the previous boundary, the same on every rank; of this one where a
        process is alone."""
        if self.ranks.control is None:
            return vote
        agreed = self.last()
        self._votes = torch.tensor([int(vote)])
        self._pending = dist.all_reduce(
            self._votes, dist.ReduceOp.MAX, group=self.ranks.control, async_op=True
        )
        return agreed

    def last(self) -> Vote:
        """The highest vote of the last boundary, once it has arrived."""
        if self._pending is None:
            return Vote.go_on
        self._pending.wait()
        self._pending = None
        return Vote(int(self._votes))
