"""How far a run is, from its directory alone: no back end is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from antioversmooth.runs import Run
from antioversmooth.runs.record import RunRecord
from antioversmooth.runs.status import RunState


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    state: RunState
    step: int
    """Optimizer steps done."""
    total_steps: int
    epochs_done: int
    """Whole epochs that were evaluated."""
    epochs: int
    loss: float | None
    """Newest training loss."""
    top1: float | None
    """Top-1 accuracy on the validation set after the last epoch that was evaluated, in percent."""
    images_per_s: float | None
    """Newest training throughput over all devices."""
    remaining_s: float | None
    """Seconds of training left at that throughput; None where nothing is known."""
    attempts: int
    """Starts so far."""

    @property
    def fraction(self) -> float:
        """Part of the training that is done, 0 to 1."""
        if self.state is RunState.done:
            return 1.0
        return min(1.0, self.step / self.total_steps) if self.total_steps else 0.0


def progress_of(record: RunRecord) -> Progress:
    """The progress of a run."""
    trace, experiment = record.trace, record.run.experiment
    left = (experiment.total_steps - trace.last_step) * experiment.recipe.global_batch
    return Progress(
        state=record.status.state,
        step=trace.last_step,
        total_steps=experiment.total_steps,
        epochs_done=trace.epochs_done,
        epochs=experiment.recipe.epochs,
        loss=trace.loss,
        top1=trace.top1,
        images_per_s=trace.images_per_s,
        remaining_s=left / trace.images_per_s if trace.images_per_s else None,
        attempts=len(record.attempts),
    )


_MEASURED = ("metrics.jsonl", "attempts.jsonl", "result.json")
_STATE = ("intent.json", "jobs.jsonl", "heartbeat")
"""Files of a run directory that its progress, and its state besides, are made of."""
Stamps = tuple[tuple[int, int] | None, ...]
"""Time of the last change and size of each file."""


class Reader:
    """Reads the progress of many runs again and again, but only the files that changed."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = list(runs)
        self._known: dict[str, tuple[Stamps, Stamps, Progress]] = {}

    def read(self) -> dict[str, Progress]:
        """Progress by run id."""
        return {run.id: self._read_one(run) for run in self.runs}

    def _read_one(self, run: Run) -> Progress:
        measured, state = _stamps(run, _MEASURED), _stamps(run, _STATE)
        *before, known = self._known.get(run.id, (None, None, None))
        # one that was running may have died without a word
        is_settled = known is not None and known.state is not RunState.running
        if known is not None and is_settled and before == [measured, state]:
            return known
        record = RunRecord.read(run)
        if known is not None and before[0] == measured:
            progress = replace(known, state=record.status.state)
        else:
            progress = progress_of(record)
        self._known[run.id] = (measured, state, progress)
        return progress


def _stamps(run: Run, names: Sequence[str]) -> Stamps:
    return tuple(_stamp(run.dir / name) for name in names)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
