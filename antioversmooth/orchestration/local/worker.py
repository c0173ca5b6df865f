"""One attempt of one run on this machine: the processes that train it, from their start to the last
of them gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Container, Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path

from antioversmooth.orchestration.devices import Placement
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import Run, RunState, journal, state
from antioversmooth.runs.journal import EndReason

STOPPED_EXIT = 75
"""Training's exit code for: ended early, the next start goes on from here (EX_TEMPFAIL)."""
REFUSED_EXIT = 2
"""Training's exit code for: a person has to mend something first."""
RESUMABLE = {
    reason.value for reason in (EndReason.preempted, EndReason.timeout, EndReason.cancelled)
}


class Ending(Enum):
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

    def poll(self) -> Ending | None:
        """How the attempt ended, once its last process is gone; None while it lives."""
        if self._process.poll() is None:
            # torchrun's workers have sessions of their own; should it be killed, only this list
            # still knows them
            self._below = set(_descendants(self._process.pid))
            return None
        self._kill_remains()
        return self._ending(self._process.returncode)

    def stage(self) -> str:
        """Where the attempt is: starting, running or ending."""
        if len(_ends(self.run)) > self._ended_before:
            return "ending"
        return "running" if state(self.run) is RunState.running else "starting"

    @property
    def pid(self) -> int:
        """The first process, which the others end with."""
        return self._process.pid

    @property
    def exit_code(self) -> int:
        """Exit code of the first process, negative for a signal; meant for an attempt that
        ended."""
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
        """Kills what the first process left behind: its session, and what it started outside of
        that."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for pid in self._below:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._below.clear()

    def _ending(self, code: int) -> Ending:
        """Ending by result, exit code or end record; torchrun replaces its workers' exit codes by
        its own."""
        if self.run.result() is not None:
            return Ending.done
        ends = _ends(self.run)
        reason = ends[-1]["reason"] if len(ends) > self._ended_before else None
        before_it_listened = self._asked_to_end and code in (-signal.SIGTERM, -signal.SIGINT)
        if code == STOPPED_EXIT or reason in RESUMABLE or before_it_listened:
            return Ending.stopped
        if code == REFUSED_EXIT or reason == EndReason.disk_full.value:
            return Ending.refused
        return Ending.crashed


def command(run: Run, placement: Placement) -> list[str]:
    """What starts the processes of a run: the same entry point, alone or under torchrun."""
    torchrun = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={placement.processes}",
    ]
    return [
        sys.executable,
        *(torchrun if placement.processes > 1 else []),
        *("-m", "antioversmooth.training", str(run.dir)),
    ]


def environment(
    run: Run, placement: Placement, gpus: Sequence[str], snapshot: Snapshot
) -> dict[str, str]:
    """The environment of the processes of a run."""
    changed = {
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(snapshot.path), os.environ.get("PYTHONPATH")])
        ),
        # else `-m` would take the package of the current folder before the snapshot's
        "PYTHONSAFEPATH": "1",
        "ANTIOVERSMOOTH_PARENT": str(os.getpid()),
    }
    if placement.on_gpu:
        changed["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    else:
        changed["CUDA_VISIBLE_DEVICES"] = ""
        # OpenMP's threads spin at barriers; two one-thread runs are 4 to 7 times faster than two
        # two-thread ones
        changed["OMP_NUM_THREADS"] = str(run.experiment.runtime.threads or 1)
    return {**os.environ, **changed}


def launcher_log(run: Run) -> Path:
    """What the processes print before an attempt has its own logs, and what torchrun says."""
    return run.dir / "logs" / "launcher.log"


def close_attempt(
    run: Run,
    reason: EndReason,
    message: str,
    *,
    attempt: int | None = None,
    instead_of: Container[str] = (),
) -> None:
    """Writes the end of an attempt where it could not do so itself, because it was killed.

    Args:
        attempt: Its number; default: the newest.
        instead_of: Reasons that it may have given itself, and that this one knows better than.
    """
    records = run.attempts()
    started = [r["attempt"] for r in records if r.get("event") == "start"]
    ends = {r["attempt"]: r for r in records if r.get("event") == "end"}
    ended = {attempt for attempt, end in ends.items() if end["reason"] not in instead_of}
    closed = max(started, default=None) if attempt is None else attempt
    if closed is not None and closed not in ended:
        step = ends.get(closed, {}).get("step", run.last_step())
        end = {
            "attempt": closed,
            "event": "end",
            "reason": reason.value,
            "step": step,
            "message": message,
        }
        journal.append(run.attempts_path, end)


def last_lines(run: Run, count: int = 5) -> list[str]:
    """The end of the log that tells most about the newest attempt: of the rank that raised, else of
    the launcher."""
    newest = max(run.attempt_dirs(), default=None)
    ranks = sorted(newest[1].glob("rank*.err")) if newest else []
    logs = [
        path.read_text(errors="replace") for path in [*ranks, launcher_log(run)] if path.is_file()
    ]
    told = [log for log in logs if log.strip()]
    best = next((log for log in told if "Traceback" in log), told[0] if told else "")
    return [line for line in best.splitlines() if line.strip()][-count:]


def _ends(run: Run) -> list[journal.Record]:
    return [r for r in run.attempts() if r.get("event") == "end"]


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
