"""Reading and writing checkpoints: each is whole or absent, with a checksum beside it.

Their names, and which of them belong to the run: runs/checkpoints.py.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from antioversmooth import files
from antioversmooth.errors import CheckpointError
from antioversmooth.runs import Run
from antioversmooth.runs.checkpoints import Checkpoint, list_checkpoints

State = dict[str, Any]
"""Tensors, numbers and strings in dicts and lists, as `torch.load(weights_only=True)` gives."""

KEPT = 2
"""Newest checkpoints that stay beside the best: the one before, in case the newest is torn."""


def load_state(path: Path, *, lazily: bool = False) -> State:
    """The content of a checkpoint file, on the CPU.

    Args:
        lazily: Whether to read tensors only when they are used.

    Raises:
        CheckpointError: It is missing, torn, or not a checkpoint of ours.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=lazily)
    except FileNotFoundError as err:
        raise CheckpointError(f"there is no checkpoint {path}") from err
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, ValueError, OSError) as err:
        # errors that torch raises for a torn file
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint: it is torn, or none of ours"
        ) from err
    if not isinstance(state, dict) or "model" not in state:
        raise CheckpointError(f"{path} holds no model of this project")
    return state


class Flaw(NamedTuple):
    """Why a checkpoint is not loaded."""

    event: str
    """Event of the journal."""
    reason: str
    """The predicate of a message about the file."""


def newest_valid(run: Run, report: Callable[[Checkpoint, Flaw], None]) -> Checkpoint | None:
    """The newest checkpoint of the run that is whole, and of this run and its step.

    Args:
        report: Called with each other one on the way.
    """
    for candidate in run.checkpoints():
        flaw = find_flaw(run, candidate)
        if flaw is None:
            return candidate
        report(candidate, flaw)
    return None


def find_flaw(run: Run, checkpoint: Checkpoint) -> Flaw | None:
    """Why a checkpoint must not be loaded as one of the run; None where it may be."""
    return _foreign(run, checkpoint) if checkpoint.is_whole() else _unequal(checkpoint)


def _unequal(checkpoint: Checkpoint) -> Flaw:
    """The flaw of a file without its recorded checksum."""
    if not checkpoint.path.is_file():
        return Flaw("torn-checkpoint", "is missing")
    try:
        load_state(checkpoint.path, lazily=True)
    except CheckpointError:
        return Flaw("torn-checkpoint", "is torn")
    recorded = checkpoint.checksum
    if not recorded:
        return Flaw("changed-checkpoint", f"has no sha256 in {checkpoint.checksum_path.name}")
    found = files.sha256(checkpoint.path)
    return Flaw(
        "changed-checkpoint",
        f"is not the checkpoint that was written (its sha256 is {found[:12]}, recorded is"
        f" {recorded[:12]})",
    )


def require_valid(run: Run, checkpoint: Checkpoint, relation: str = "") -> None:
    """Raises CheckpointError where a checkpoint must not be loaded as one of the run.

    Args:
        relation: Who needs it, for the message: "deit_s12 seed 0 starts from it".
    """
    if flaw := find_flaw(run, checkpoint):
        needed = f"; {relation}" if relation else ""
        raise CheckpointError(
            f"{checkpoint.path} {flaw.reason}{needed}; put the file back as it was written, or move"
            f" {run.dir} away and launch {run.name} again"
        )


def _foreign(run: Run, checkpoint: Checkpoint) -> Flaw | None:
    """The flaw of a file that holds another run or step than its place and name say."""
    try:
        state = load_state(checkpoint.path, lazily=True)
    except CheckpointError:
        return Flaw("foreign-checkpoint", "is no checkpoint of a run")
    if state.get("id") != run.id:
        return Flaw("foreign-checkpoint", f"is of run {str(state.get('id'))[:8]}, not {run.id[:8]}")
    if state.get("step") != checkpoint.step:
        return Flaw("foreign-checkpoint", f"is of step {state.get('step')}, not of its name's")
    return None


class CheckpointWriter:
    """Writes checkpoints in the background: training waits for the copy of the state only.

    Args:
        attempt: Number of the attempt that writes.
        is_superseded: Asked before anything is written; a superseded attempt writes nothing.
    """

    def __init__(self, run: Run, attempt: int, is_superseded: Callable[[], bool]) -> None:
        self.run = run
        self.attempt = attempt
        self.is_superseded = is_superseded
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        self._own: set[Checkpoint] = set()
        """Those that are known to be of the run; a file is never written twice."""

    def save(self, state: State, *, step: int, best_step: int | None) -> None:
        """Copies the state and hands it to the writer, after the checkpoint before is written.

        Args:
            best_step: Step of the best checkpoint so far, which is kept.

        Raises:
            OSError: The checkpoint before this one could not be written; those before it are as
                they were.
        """
        self.wait()
        copy = _copy_to_cpu(state)
        self._pending = self._thread.submit(self._write, copy, step, best_step)

    def failed(self) -> BaseException | None:
        """The error that stopped the last write, if it has failed by now."""
        pending = self._pending
        return pending.exception() if pending is not None and pending.done() else None

    def wait(self) -> None:
        """Returns when the last checkpoint is on disk.

        Raises:
            OSError: It could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Waits for the thread's end."""
        self._thread.shutdown()

    def _write(self, state: State, step: int, best_step: int | None) -> None:
        if self.is_superseded():
            return
        checkpoint = Checkpoint.named(self.run.checkpoints_dir, step, self.attempt)
        save_state(checkpoint, state)
        self._own.add(checkpoint)
        self._delete_all_but(best_step)

    def _delete_all_but(self, best_step: int | None) -> None:
        """Deletes checkpoints of the run but the newest ones and the best; those of others stay."""
        own = [c for c in list_checkpoints(self.run.checkpoints_dir) if self._is_own(c)]
        counted = [checkpoint for checkpoint in self.run.checkpoints() if checkpoint in own]
        kept = counted[:KEPT] + [c for c in counted if c.step == best_step]
        for checkpoint in own:
            if checkpoint not in kept:
                checkpoint.delete()

    def _is_own(self, checkpoint: Checkpoint) -> bool:
        if checkpoint not in self._own and _foreign(self.run, checkpoint) is None:
            self._own.add(checkpoint)
        return checkpoint in self._own


def save_state(checkpoint: Checkpoint, state: State) -> None:
    """Writes a checkpoint; its checksum comes first, so that a file that is there has one."""
    # written to memory first, since torch turns a full disk into an unrelated error
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    files.write_atomic(checkpoint.checksum_path, f"{digest}  {checkpoint.path.name}\n")
    files.write_atomic(checkpoint.path, content)


def remove_leftovers(run: Run) -> None:
    """Deletes the unfinished files of a writer that was killed."""
    for path in run.checkpoints_dir.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def _copy_to_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copy_to_cpu(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copy_to_cpu(item) for item in value]
    return value
