"""One start of a run in its directory: number, logs, heartbeat, start, and end with the reason."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from antioversmooth import files
from antioversmooth.background import background_thread
from antioversmooth.errors import AntiOversmoothError, AttemptEnded, UserError
from antioversmooth.redact import redact_all
from antioversmooth.runs import Run, deal, journal, recorded_data
from antioversmooth.runs.agreement import CLOCK_SKEW_S
from antioversmooth.runs.attempts import CORRUPT_IMAGE, EndReason, write_end
from antioversmooth.runs.checkpoints import Checkpoint
from antioversmooth.runs.code import PACKAGES, installed_packages, running_code
from antioversmooth.runs.draws import DRAWS
from antioversmooth.runs.lock import TRAINING_LOCK, hold_lock
from antioversmooth.runs.metrics import TOKEN_SIMILARITY, VAL_TOP1
from antioversmooth.training.run import checkpoint
from antioversmooth.training.run.checkpoint import Flaw
from antioversmooth.training.run.distributed import Ranks

LOCK_TIMEOUT_S = 10.0
"""How long a start waits for the process of a killed launcher to notice and end."""


@dataclass
class Attempt:
    """One start of a run; only rank 0 writes to the run directory, for others calls do nothing."""

    run: Run
    ranks: Ranks
    number: int
    resume_from: Checkpoint | None
    """Where it continues; None: from the beginning."""
    step: int = 0
    """Steps of the run that are done."""

    def __post_init__(self) -> None:
        self.step = self.resume_from.step if self.resume_from else 0

    def record(self, step: int, **metrics: Any) -> None:
        """Adds a record to the run's metrics.

        One that the result depends on is on disk before anything that follows.
        """
        if self.ranks.is_main:
            record = {"attempt": self.number, "step": step, **metrics}
            synced = not {VAL_TOP1, TOKEN_SIMILARITY}.isdisjoint(metrics)
            journal.append(self.run.metrics_path, record, synced=synced)

    def note(self, event: str, **facts: Any) -> None:
        """Adds a record to the run's attempts."""
        if self.ranks.is_main:
            self.note_from_any_rank(event, **facts)

    def note_from_any_rank(self, event: str, **facts: Any) -> None:
        """As `note`, for what only this rank knows."""
        record = {"attempt": self.number, "event": event, **facts}
        # which records count depends on the starts
        journal.append(self.run.attempts_path, record, synced=event == "start")

    def write_end(self, reason: EndReason, message: str = "") -> None:
        """Records the end of this attempt."""
        if self.ranks.is_main:
            write_end(self.run.attempts_path, self.number, reason, step=self.step, message=message)

    def note_unreadable(self, names: Iterable[str]) -> set[str]:
        """Journals unreadable images once an attempt; returns those that all ranks have found."""
        noted = {
            record["file"]
            for record in journal.read(self.run.attempts_path, holding="file")
            if (record.get("event"), record.get("attempt")) == (CORRUPT_IMAGE, self.number)
        }
        for name in sorted(set(names) - noted):
            self.note_from_any_rank(CORRUPT_IMAGE, file=name, rank=self.ranks.rank)
        return noted.union(names)

    def add_provenance(self, **facts: Any) -> None:
        """Adds to what the newest attempt ran on."""
        if self.ranks.is_main:
            path = self.run.dir / "provenance.json"
            files.write_json(path, {**files.read_mapping(path), **facts})

    def is_superseded(self) -> bool:
        """Whether a newer attempt has taken over the run: its log folder is there."""
        return any(number > self.number for number, _ in self.run.attempt_dirs())

    def check_fence(self) -> None:
        """Raises AttemptEnded where a newer attempt has taken over the run."""
        if self.is_superseded():
            raise AttemptEnded(
                SUPERSEDED, f"attempt {self.number} ends: a newer one has taken over {self.run.dir}"
            )


@contextmanager
def opened(run: Run, ranks: Ranks, *, redirect: bool) -> Iterator[Attempt]:
    """A new attempt, with its start written down; its end, with the reason, is written on leaving.

    Args:
        redirect: Whether this process's output goes to the attempt's log folder.

    Raises:
        LaunchError: Another process of this machine is running this run.
    """
    with ExitStack() as stack:
        if ranks.is_main:
            stack.enter_context(_locked(run))
        attempt, remarks = _new_attempt(run, ranks)
        if redirect:
            stack.enter_context(_redirected(run.dir / "logs" / f"attempt{attempt.number}", ranks))
        for remark in remarks:
            print(remark, file=sys.stderr, flush=True)
        if ranks.is_main:
            _write_start(attempt)
            stack.enter_context(_heartbeat(run))
        try:
            yield attempt
        except BaseException as err:
            _write_end(attempt, err)
            raise
        attempt.write_end(EndReason.completed)


def _new_attempt(run: Run, ranks: Ranks) -> tuple[Attempt, list[str]]:
    """The attempt, and what its log says first: of checkpoints that it does not go on from."""
    skipped: list[tuple[Checkpoint, Flaw]] = []
    number, found, reached = 0, None, 0
    if ranks.is_main:
        _close_predecessor(run)
        checkpoint.remove_leftovers(run)
        found = checkpoint.newest_valid(run, lambda *flawed: skipped.append(flawed))
        reached = run.last_step() if found is None else 0
        number = run.new_attempt()
    number, found = ranks.from_main((number, found))
    attempt = Attempt(run, ranks, number, found)
    instead = found.path.name if found else "the beginning"
    remarks = []
    for flawed, flaw in skipped:
        name = flawed.path.name
        attempt.note(flaw.event, file=name, why=flaw.reason, instead=instead)
        remarks.append(f"{name} {flaw.reason}; {run.name} goes on from {instead}")
    if reached:
        attempt.note("no-checkpoint", reached=reached, instead=instead)
        remarks.append(run.no_checkpoint_message(reached))
    if ranks.is_main and (ahead := _seconds_ahead(run)) > CLOCK_SKEW_S:
        remarks.append(
            f"an earlier attempt of {run.name} has times {ahead:.0f} s from now: a clock is or was"
            " wrong, and verify and import refuse a result whose attempts run backwards; compare"
            f" `date` on the machines, and move {run.dir} away if the result is to be shared"
        )
    if ranks.is_main and found and not recorded_data(run.dir):
        attempt.note("data-not-compared")
        remarks.append(
            f"{run.dir}/provenance.json does not say on which data {run.name} began: they are not"
            " compared with those that it goes on with"
        )
    return attempt, remarks


def _seconds_ahead(run: Run) -> float:
    """Seconds by which the newest time of the attempts so far is later than now."""
    return max((one.last_seen for one in run.attempts()), default=0.0) - time.time()


def _close_predecessor(run: Run) -> None:
    """Records the end of the attempt before, where SLURM has started its job again.

    With its first node a job loses its batch script, which records the end for dead processes.
    """
    newest = max(run.attempts(), key=lambda attempt: attempt.number, default=None)
    if newest is None or int(os.environ.get("SLURM_RESTART_COUNT", "0")) == 0:
        return
    if newest.job_id == os.environ["SLURM_JOB_ID"]:
        run.close_attempt(
            EndReason.node_fail,
            "SLURM started the job again; neither the processes nor the batch script of its last"
            " turn recorded an end",
        )


def _locked(run: Run) -> AbstractContextManager[object]:
    """Keeps other processes of this machine from training the run; under SLURM the queue does."""
    if "SLURM_JOB_ID" in os.environ:
        return nullcontext()
    message = f"{run.name} is running already (its lock is held): {run.dir}"
    return hold_lock(run.dir, TRAINING_LOCK, timeout_s=LOCK_TIMEOUT_S, message=message)


@contextmanager
def _redirected(folder: Path, ranks: Ranks) -> Iterator[None]:
    """Sends what this process prints, also from libraries in C, to its own files."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    for descriptor, ending in ((1, "out"), (2, "err")):
        with (folder / f"rank{ranks.rank}.{ending}").open("ab") as log:
            os.dup2(log.fileno(), descriptor)
    try:
        yield
    except BaseException as err:
        print(describe(err), file=sys.stderr)
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, original in before.items():
            os.dup2(original, descriptor)
            os.close(original)


@contextmanager
def _heartbeat(run: Run) -> Iterator[None]:
    """Touches the run's heartbeat file from a thread: the attempt is alive."""

    def beat(over: threading.Event) -> None:
        while True:
            # a hiccup of the file system: the next beat shows that we live
            with contextlib.suppress(OSError):
                (run.dir / "heartbeat").touch()
            if over.wait(run.experiment.runtime.heartbeat_s):
                return

    with background_thread(beat, "heartbeat"):
        yield


def _write_start(attempt: Attempt) -> None:
    run, ranks = attempt.run, attempt.ranks
    origin = run.experiment.recipe.init_from
    source = f"init:{origin}" if origin else "scratch"
    if attempt.resume_from:
        source = attempt.resume_from.path.name
    facts = _whereabouts(run, ranks)
    packages = installed_packages()
    numeric = {name: packages[name] for name in packages if name.lower() in PACKAGES}
    attempt.note("start", step=attempt.step, **{"from": source}, **facts, packages=numeric)
    more = {
        "platform": platform.platform(),
        "driver": _driver(),
        "packages": packages,
        "slurm": {key: os.environ[key] for key in _SLURM_FACTS if key in os.environ},
    }
    # which this attempt is held against
    data = {"data": began} if (began := recorded_data(run.dir)) else {}
    files.write_json(
        run.dir / "provenance.json",
        {"attempt": attempt.number, **redact_all({**facts, **more}), **data},
    )


_SLURM_FACTS = (
    "SLURM_CLUSTER_NAME", "SLURM_JOB_ID", "SLURM_JOB_PARTITION", "SLURM_JOB_NODELIST",
    "SLURM_JOB_NUM_NODES", "SLURM_NTASKS", "SLURM_CPUS_PER_TASK", "SLURM_RESTART_COUNT",
)  # fmt: skip


def _whereabouts(run: Run, ranks: Ranks) -> dict[str, Any]:
    intent = files.read_mapping(run.dir / "intent.json")
    code, folder = running_code()
    config = run.experiment
    # of the global batch, as this attempt deals it
    dealt = deal(config, ranks.world_size) if config.recipe.epochs else (None, None)
    return {
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "cuda": torch.version.cuda,
        "pid": os.getpid(),
        "world_size": ranks.world_size,
        "device_batch": dealt[0],
        "accumulation": dealt[1],
        "started_by": ranks.info.launcher,
        "device": ranks.device_name,
        "device_type": ranks.device.type,
        "compile": config.runtime.compile.value,
        "draws": DRAWS,
        "commit": intent.get("commit"),
        "snapshot": code,
        "snapshot_path": str(folder),
        "job_id": os.environ.get("SLURM_JOB_ID"),
        "turn": int(os.environ.get("SLURM_RESTART_COUNT", "0")),
    }


def _driver() -> str | None:
    try:
        return Path("/proc/driver/nvidia/version").read_text().splitlines()[0]
    except OSError:
        return None


def _write_end(attempt: Attempt, error: BaseException) -> None:
    """Notes why the attempt ended: on rank 0 as its end, on others as a failure of their own."""
    reason, message = end_of(error)
    if reason is None:
        return
    # where not even a line fits any more, the error itself still travels up
    with contextlib.suppress(OSError):
        if attempt.ranks.is_main:
            attempt.write_end(reason, message)
        elif not isinstance(error, AttemptEnded):
            attempt.note_from_any_rank(
                "failure", rank=attempt.ranks.rank, host=socket.gethostname(), message=message
            )


def end_of(error: BaseException) -> tuple[EndReason | None, str]:
    """Reason and message of an attempt that an exception ended; no reason if it is superseded."""
    message = f"{type(error).__name__}: {error}" if not isinstance(error, UserError) else str(error)
    if isinstance(error, AttemptEnded):
        return (None if error.reason == SUPERSEDED else EndReason(error.reason)), str(error)
    if is_full(error):
        return EndReason.disk_full, message
    if isinstance(error, KeyboardInterrupt):
        return EndReason.cancelled, message
    # how gloo reports a rank that never came
    if isinstance(error, RuntimeError) and "timed out" in message.lower():
        return EndReason.hang, message
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return EndReason.out_of_memory, (
            f"{message.splitlines()[0]}; runtime.device_batch and runtime.gradient_checkpointing"
            " make it smaller, and the run stays the same"
        )
    return EndReason.crash, message


def is_full(error: BaseException) -> bool:
    """Whether a file could not grow: full disk, quota, size limit. A new attempt mends none."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def describe(error: BaseException) -> str:
    """The text for a log: the message of an error of ours, the traceback of any other."""
    if isinstance(error, AntiOversmoothError):
        return str(error)
    return "".join(traceback.format_exception(error)).rstrip()


SUPERSEDED = "superseded"
"""Reason of an attempt that a newer one has replaced; it writes nothing more, not even this."""
