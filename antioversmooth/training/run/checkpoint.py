"""Reading and writing checkpoints: each is whole or absent, with a checksum beside it.

Their names, and which of them belong to the run: runs/checkpoints.py.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

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


def load_state(path: Path) -> State:
    """The content of a checkpoint file, on the CPU.

    Raises:
        CheckpointError: It is missing, torn, or not a checkpoint of ours.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
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


def newest_whole(
    candidates: Iterable[Checkpoint], report: Callable[[Checkpoint], None]
) -> Checkpoint | None:
    """The first candidate that is whole.

    Args:
        report: Called with each torn one on the way.
    """
    for candidate in candidates:
        if candidate.is_whole():
            return candidate
        report(candidate)
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
        _delete_all_but(self.run.checkpoints(), best_step, self.run.checkpoints_dir)


def save_state(checkpoint: Checkpoint, state: State) -> None:
    """Writes a checkpoint; its checksum comes first, so that a file that is there has one."""
    # written to memory first, since torch turns a full disk into an unrelated error
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    files.write_atomic(checkpoint.checksum_path, f"{digest}  {checkpoint.path.name}\n")
    files.write_atomic(checkpoint.path, content)


def _delete_all_but(counted: list[Checkpoint], best_step: int | None, folder: Path) -> None:
    kept = counted[:KEPT] + [c for c in counted if c.step == best_step]
    for checkpoint in list_checkpoints(folder):
        if checkpoint not in kept:
            checkpoint.delete()


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
