"""The processes of one attempt on this machine, from their start until the last one has ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path

from antioversmooth.orchestration.devices import Placement
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import Run
from antioversmooth.runs.attempts import RESUMABLE, EndReason
from antioversmooth.runs.record import RunRecord
from antioversmooth.runs.status import RunState

STOPPED_EXIT = 75
"""Exit code of training that ended early; the next start resumes (EX_TEMPFAIL)."""
REFUSED_EXIT = 2
"""Exit code of training that cannot start until a person fixes something."""


class ExitStatus(Enum):
    """How an attempt ended, seen from outside."""

    done = "done"
    stopped = "stopped"
    refused = "refused"
    crashed = "crashed"


class Worker:
    """The living processes of an attempt.

    One process is started as it is. Several are started by torchrun, which costs an import of torch
    of its own (about 2 CPU seconds and 0.3 GiB here), so it is not put in front of a single one.
    """

    def __init__(
        self, run: Run, placement: Placement, gpus: Sequence[str], snapshot: Snapshot, lock: int
    ) -> None:
        """Starts them.

        Args:
            gpus: One for each process; empty on the CPU.
            lock: The descriptor of the run's lock; the first process inherits it.
        """
        self.run = run
        self.gpus = list(gpus)
        self.placement = placement
        self._ended_before = len(_ends(run))
        with launcher_log(run).open("wb") as log:
            self._process = subprocess.Popen(
                command(run, placement),
                env=environment(run, placement, gpus, snapshot),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # a Ctrl-C at the terminal reaches the launcher only, which passes it on once
                start_new_session=True,
                pass_fds=[lock],
            )
        self._below: set[int] = set()
        self._asked_to_end = False

    def poll(self) -> ExitStatus | None:
        """How the attempt ended, once its last process is gone; None while it lives."""
        if self._process.poll() is None:
            # torchrun's workers have sessions of their own: after its death only this list has them
            self._below = set(_descendants(self._process.pid))
            return None
        self._kill_remains()
        return self._exit_status(self._process.returncode)

    def stage(self) -> str:
        """Where the attempt is: starting, running or ending."""
        if len(_ends(self.run)) > self._ended_before:
            return "ending"
        is_running = RunRecord.read(self.run).status.state is RunState.running
        return "running" if is_running else "starting"

    @property
    def pid(self) -> int:
        """The first process, which the others end with."""
        return self._process.pid

    @property
    def exit_code(self) -> int:
        """Exit code of the first process, negative for a signal; waits for its end."""
        return self._process.wait()

    def terminate(self) -> None:
        """Asks it to save and to end."""
        self._asked_to_end = True
        if self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Ends every process of it now."""
        self._below |= set(_descendants(self._process.pid))
        self._process.kill()
        self._process.wait()
        self._kill_remains()

    def _kill_remains(self) -> None:
        """Kills the session of the first process, and what it started outside of that."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for pid in self._below:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._below.clear()

    def _exit_status(self, code: int) -> ExitStatus:
        """The status by result, exit code or end record, as torchrun hides exit codes."""
        if self.run.result() is not None:
            return ExitStatus.done
        ends = _ends(self.run)
        reason = ends[-1] if len(ends) > self._ended_before else None
        before_it_listened = self._asked_to_end and code in (-signal.SIGTERM, -signal.SIGINT)
        if code == STOPPED_EXIT or reason in RESUMABLE or before_it_listened:
            return ExitStatus.stopped
        if code == REFUSED_EXIT or reason is EndReason.disk_full:
            return ExitStatus.refused
        return ExitStatus.crashed


def command(run: Run, placement: Placement) -> list[str]:
    """The command that starts the processes of a run: one entry point, alone or under torchrun."""
    torchrun = ["-m", "torch.distributed.run", "--standalone"]
    torchrun += [f"--nproc-per-node={placement.processes}"]
    starter = torchrun if placement.processes > 1 else []
    return [sys.executable, *starter, "-m", "antioversmooth.training", str(run.dir)]


def environment(
    run: Run, placement: Placement, gpus: Sequence[str], snapshot: Snapshot
) -> dict[str, str]:
    """The environment of the processes of a run."""
    path = filter(None, [str(snapshot.path), os.environ.get("PYTHONPATH")])
    changed = {
        "PYTHONPATH": os.pathsep.join(path),
        # without it, `-m` imports from the current folder first
        "PYTHONSAFEPATH": "1",
        "ANTIOVERSMOOTH_PARENT": str(os.getpid()),
        "CUDA_VISIBLE_DEVICES": ",".join(gpus),
    }
    if not placement.on_gpu:
        # OpenMP's threads spin at barriers; two one-thread runs are 4 to 7 times faster than two
        # two-thread ones
        changed["OMP_NUM_THREADS"] = str(run.experiment.runtime.threads or 1)
    return {**os.environ, **changed}


def launcher_log(run: Run) -> Path:
    """The log of torchrun, and of the processes before an attempt has logs of its own."""
    return run.dir / "logs" / "launcher.log"


def _ends(run: Run) -> list[EndReason]:
    return [attempt.reason for attempt in run.attempts() if attempt.reason is not None]


def _descendants(pid: int) -> list[int]:
    """Processes below a process (Linux; elsewhere none are found)."""
    found: list[int] = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in listing.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            # it ended while we looked
            continue
        for child in children:
            found += [child, *_descendants(child)]
    return found
