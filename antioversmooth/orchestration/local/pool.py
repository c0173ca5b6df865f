"""The local back end: runs side by side on this machine, as devices and dependencies allow."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from types import FrameType
from typing import ClassVar

from antioversmooth import files
from antioversmooth.config import Experiment
from antioversmooth.orchestration import devices
from antioversmooth.orchestration.backend import Launched, Outcome, stopped_outcome
from antioversmooth.orchestration.devices import Placement
from antioversmooth.orchestration.intent import write_intent
from antioversmooth.orchestration.local import process
from antioversmooth.orchestration.local.worker import ExitStatus, Worker, launcher_log
from antioversmooth.orchestration.monitor.logs import last_lines
from antioversmooth.orchestration.monitor.view import View
from antioversmooth.orchestration.notify import events
from antioversmooth.orchestration.notify.events import Event
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import Run
from antioversmooth.runs.attempts import EndReason
from antioversmooth.runs.lock import try_lock
from antioversmooth.runs.record import SLURM, RunRecord
from antioversmooth.runs.status import RunState

POLL_S = 0.2
GRACE_S = 60.0
"""How long runs may take to save after they were told to stop."""
SAME_PRESS_S = 1.0
"""Time within which a second signal counts as the same key press."""
CRASHES_FORGIVEN = 1
"""Crashes of a run that one launch answers with another attempt."""


class LocalBackend:
    """Trains runs in processes of this machine."""

    name: ClassVar[str] = "local"
    submits: ClassVar[bool] = False

    @cached_property
    def gpus(self) -> list[str]:
        """The GPUs of this machine."""
        return devices.visible_gpus()

    def placement(self, experiment: Experiment) -> Placement:
        """The processes of the spec, or as many as this machine has devices for."""
        return devices.place(experiment, self.gpus)

    def at_a_time(self, experiments: Sequence[Experiment]) -> int:
        """As many as have room where all of them need as much as the one that needs most."""
        return min(map(self._at_a_time, experiments), default=0)

    def _at_a_time(self, experiment: Experiment) -> int:
        placed, limit = self.placement(experiment), experiment.cluster.max_parallel
        if placed.on_gpu:
            room = max(1, len(self.gpus) // placed.processes)
            return min(room, limit) if limit else room
        return limit or max(1, devices.cpus() // placed.processes)

    def script(self, run: Run, snapshot: Snapshot) -> None:
        """None: no job is submitted."""

    def launch(self, runs: Sequence[Run], snapshot: Snapshot, view: View) -> Launched:
        """Trains the runs on this machine and returns when none of their processes is left.

        A first SIGINT, SIGTERM or SIGHUP lets the runs save and end, a second one ends them at
        once.
        """
        for line in _deviations(runs, self.gpus):
            view.say(line)
        # runs that wait can be cancelled, too
        for run in runs:
            if not run.dir.exists():
                run.prepare()
            process.forget_requests(run)
        pool = Pool(runs, snapshot, view.say, gpus=self.gpus, cpus=devices.cpus())
        deadline = float("inf")
        with _interruptions() as received:
            try:
                while pool.step():
                    view.update(pool.notes())
                    if received and deadline == float("inf"):
                        deadline = time.monotonic() + GRACE_S
                        saving = f"stopping; runs that are saving now: {pool.stop()}"
                        view.say(f"{saving}; once more ends them without saving")
                    elif len(received) > 1 or time.monotonic() > deadline:
                        pool.kill()
                    time.sleep(POLL_S)
                view.update(pool.notes())
            finally:
                pool.kill()
        is_incomplete = bool({Outcome.stopped, Outcome.missing} & set(pool.outcomes.values()))
        return Launched(pool.outcomes, interrupted=bool(received) and is_incomplete)


def _deviations(runs: Sequence[Run], gpus: Sequence[str]) -> list[str]:
    """Messages about specs that ask for more processes than this machine has devices for."""
    lines = []
    for run in runs:
        cluster, placed = run.experiment.cluster, devices.place(run.experiment, gpus)
        if placed.processes < cluster.world_size:
            kind = "GPUs" if cluster.gpus_per_node else "processes"
            asked = f"{cluster.nodes} x {cluster.processes_per_node} {kind}"
            batch = f"the same global batch of {run.experiment.recipe.global_batch}"
            here = f"on this machine it is {placed.device}, with {batch}"
            lines.append(f"the specs ask for {asked} a run; {here}")
    return list(dict.fromkeys(lines))


class Pool:
    """The runs of one launch, and the machine they share."""

    def __init__(
        self,
        runs: Sequence[Run],
        snapshot: Snapshot,
        say: Callable[[str], None],
        *,
        gpus: Sequence[str],
        cpus: int,
    ) -> None:
        needed = {other.id for run in runs for other in run.dependencies}
        # first what others wait for
        self._waiting = sorted(runs, key=lambda run: run.id not in needed)
        self._snapshot = snapshot
        self._say = say
        self._gpus = tuple(gpus)
        self._free_gpus = list(gpus)
        self._free_cpus = cpus
        self._workers: dict[str, Worker] = {}
        self._locks: dict[str, int] = {}
        self._crashes: dict[str, int] = {}
        self._elsewhere: set[str] = set()
        self.outcomes: dict[str, Outcome] = {}

    def step(self) -> bool:
        """Handles ended runs and starts waiting ones; returns whether any run is left."""
        for worker in list(self._workers.values()):
            status = worker.poll()
            if status is not None:
                self._on_exit(worker, status)
        for run in list(self._waiting):
            self._try_start(run)
        return bool(self._workers or self._waiting)

    def notes(self) -> dict[str, str]:
        """States that the run directories do not tell, by run id."""
        waiting = {
            run.id: "elsewhere" if run.id in self._elsewhere else "waiting" for run in self._waiting
        }
        working = {id_: worker.stage() for id_, worker in self._workers.items()}
        return waiting | working | {id_: outcome.value for id_, outcome in self.outcomes.items()}

    def stop(self) -> int:
        """Asks every run to save and end, and starts no more; returns how many still run."""
        self._finish_waiting()
        # whatever happens now is not tried again
        self._crashes = dict.fromkeys(self._workers, CRASHES_FORGIVEN)
        for worker in self._workers.values():
            worker.terminate()
        return len(self._workers)

    def kill(self) -> None:
        """Ends every process now and leaves none behind."""
        self._finish_waiting()
        for worker in list(self._workers.values()):
            worker.kill()
            worker.run.close_attempt(EndReason.cancelled, "killed by its launcher")
            self._release(worker)
            self._finish(worker.run, stopped_outcome(worker.run))

    def _finish_waiting(self) -> None:
        for run in list(self._waiting):
            elsewhere = run.id in self._elsewhere
            self._finish(run, Outcome.running if elsewhere else stopped_outcome(run))

    def _try_start(self, run: Run) -> None:
        """Starts a waiting run where it can start, or records the outcome that it has already."""
        before = {self.outcomes.get(needed.id) for needed in run.dependencies}
        if before & {Outcome.failed, Outcome.blocked}:
            self._finish(run, Outcome.blocked)
            self._say(f"{run.name} is blocked: a run that it needs did not complete")
        elif before & {Outcome.stopped, Outcome.missing, Outcome.running}:
            self._finish(run, stopped_outcome(run))
        elif run.result() is not None:
            self._finish(run, Outcome.done)
        elif process.was_asked_to_end(run):
            self._finish(run, stopped_outcome(run))
        elif all(needed.result() is not None for needed in run.dependencies):
            placement = devices.place(run.experiment, self._gpus)
            if self._has_room(run, placement) and self._claim(run):
                self._start(run, placement)

    def _has_room(self, run: Run, placement: Placement) -> bool:
        limit = run.experiment.cluster.max_parallel
        if limit and len(self._workers) >= limit:
            return False
        if placement.on_gpu:
            return placement.processes <= len(self._free_gpus)
        return bool(limit) or placement.processes <= self._free_cpus or not self._workers

    def _claim(self, run: Run) -> bool:
        """Whether the run is ours to start: nobody else has it, and it is not done."""
        lock = try_lock(run.dir)
        if lock is not None and not _runs_elsewhere(run):
            self._locks[run.id] = lock
            self._elsewhere.discard(run.id)
            # another launcher may have completed it just before
            return run.result() is None
        if lock is not None:
            os.close(lock)
        if run.id not in self._elsewhere:
            self._elsewhere.add(run.id)
            self._say(f"{run.name} is being run by another launch; waiting for it")
        return False

    def _start(self, run: Run, placement: Placement) -> None:
        run.close_attempt(EndReason.crash, "ended without an end record")
        intent = write_intent(run, LocalBackend.name, self._snapshot)
        num_gpus = placement.processes if placement.on_gpu else 0
        gpus = [self._free_gpus.pop(0) for _ in range(num_gpus)]
        self._free_cpus -= 0 if placement.on_gpu else placement.processes
        self._workers[run.id] = Worker(run, placement, gpus, self._snapshot, self._locks[run.id])
        process.record_process(run, self._workers[run.id].pid, intent)
        # a cancel that came before the process was known
        if process.was_asked_to_end(run):
            self._workers[run.id].terminate()
        if run in self._waiting:
            self._waiting.remove(run)

    def _on_exit(self, worker: Worker, status: ExitStatus) -> None:
        """Starts a crashed run again, else records its outcome."""
        run = worker.run
        self._release(worker)
        if status in (ExitStatus.done, ExitStatus.stopped):
            run.close_attempt(EndReason.cancelled, "ended before it could listen to signals")
            events.run_over(run, self._say)
            self._finish(run, Outcome.done if status is ExitStatus.done else stopped_outcome(run))
            return
        # cancelled before it could listen to signals
        if process.was_asked_to_end(run):
            run.close_attempt(EndReason.cancelled, "cancelled")
            self._finish(run, stopped_outcome(run))
            return
        run.close_attempt(EndReason.crash, f"ended with exit code {worker.exit_code}")
        again = status is ExitStatus.crashed and self._crashes.get(run.id, 0) < CRASHES_FORGIVEN
        self._crashes[run.id] = self._crashes.get(run.id, 0) + 1
        self._say(failure_message(run, worker, again=again))
        if again:
            self._start(run, worker.placement)
        else:
            crashed = status is ExitStatus.crashed
            event = Event.run_given_up if crashed else Event.run_failed
            message = f"it ended with exit code {worker.exit_code}"
            events.run_ended(run, event, message, self._say)
            self._finish(run, Outcome.failed)

    def _release(self, worker: Worker) -> None:
        del self._workers[worker.run.id]
        self._free_gpus += worker.gpus
        self._free_cpus += 0 if worker.placement.on_gpu else worker.placement.processes

    def _finish(self, run: Run, outcome: Outcome) -> None:
        """Records the outcome of a run, and releases it."""
        self.outcomes[run.id] = outcome
        if run in self._waiting:
            self._waiting.remove(run)
        if run.id in self._locks:
            os.close(self._locks.pop(run.id))


def _runs_elsewhere(run: Run) -> bool:
    """Whether an attempt lives that holds no lock here: a SLURM job or another machine has it."""
    record = RunRecord.read(run)
    if record.status.state is not RunState.running:
        return False
    is_slurm = record.intent.get("backend") == SLURM
    return is_slurm or record.intent.get("host") != socket.gethostname()


def failure_message(run: Run, worker: Worker, *, again: bool) -> str:
    """The message about an attempt that failed, with the end of its log."""
    reasons = [attempt.reason for attempt in run.attempts() if attempt.reason is not None]
    is_full = reasons[-1:] == [EndReason.disk_full]
    full = f": no space is left for its files in {run.dir}" if is_full else ""
    log = "".join(f"\n    {line}" for line in last_lines(run))
    given_up = f"given up; its logs: {launcher_log(run).parent}"
    next_step = "starting again from its last checkpoint" if again else given_up
    return f"{run.name} ended with exit code {worker.exit_code}{full}; {next_step}{log}"


@contextmanager
def _interruptions() -> Iterator[list[int]]:
    """Collects SIGINT, SIGTERM and SIGHUP instead of dying of them.

    One key press can arrive twice (from the terminal and passed on by make): within `SAME_PRESS_S`
    it counts once.
    """
    received: list[int] = []
    last = -float("inf")

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal last
        if time.monotonic() - last > SAME_PRESS_S:
            received.append(number)
        last = time.monotonic()
        # the terminal is gone: writing to it would fail in the middle of stopping
        if number == signal.SIGHUP:
            files.discard_output()

    before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
