"""How far a run is, from its directory alone: no back end is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from antioversmooth.runs import Run
from antioversmooth.runs.journal import Record
from antioversmooth.runs.metrics import IMAGES_PER_SECOND, TRAIN_LOSS, VAL_TOP1, is_number
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
    metrics, experiment = record.metrics, record.run.experiment
    speed = newest(metrics, IMAGES_PER_SECOND)
    left = (experiment.total_steps - record.last_step) * experiment.recipe.global_batch
    return Progress(
        state=record.status.state,
        step=record.last_step,
        total_steps=experiment.total_steps,
        epochs_done=sum(1 for record in record.epochs if record["step"] > 0),
        epochs=experiment.recipe.epochs,
        loss=newest(metrics, TRAIN_LOSS),
        top1=record.epochs[-1][VAL_TOP1] if record.epochs else None,
        images_per_s=speed,
        remaining_s=left / speed if speed else None,
        attempts=len(record.attempts),
    )


def newest(records: list[Record], metric: str) -> float | None:
    """The last value of a metric in the journal."""
    return next((float(r[metric]) for r in reversed(records) if is_number(r.get(metric))), None)


class Reader:
    """Reads the progress of many runs again and again, and the metrics only when they changed."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = list(runs)
        self._known: dict[str, tuple[tuple[int, ...], Progress]] = {}

    def read(self) -> dict[str, Progress]:
        """Progress by run id."""
        return {run.id: self._read_one(run) for run in self.runs}

    def _read_one(self, run: Run) -> Progress:
        stamp = tuple(
            path.stat().st_size if path.exists() else -1
            for path in (run.metrics_path, run.attempts_path)
        )
        record = RunRecord.read(run)
        known = self._known.get(run.id)
        if known is None or known[0] != stamp:
            known = (stamp, progress_of(record))
            self._known[run.id] = known
        return replace(known[1], state=record.status.state)
