"""How long a run will take: by runs of its model, else by its arithmetic."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from antioversmooth.errors import ResultError
from antioversmooth.orchestration.arithmetic import multiply_adds
from antioversmooth.runs import Run
from antioversmooth.runs.metrics import IMAGES_PER_SECOND, is_number
from antioversmooth.runs.record import RunRecord

A100_FLOPS = 312e12 * 0.35
"""Operations a second that training gets out of an A100: 35 % of its bfloat16 peak."""


@dataclass(frozen=True)
class Estimate:
    """Hours that a run occupies devices."""

    device_hours: float | None
    """Devices times hours; None where it cannot be said."""
    source: str
    """Where the number comes from, for people."""


class Estimator:
    """Estimates many runs; each run directory is read once."""

    def __init__(self, records: Iterable[RunRecord]) -> None:
        """Takes records that are read already."""
        self._records: dict[Path, RunRecord | None] = {record.run.dir: record for record in records}

    def estimate(self, record: RunRecord, *, on_gpu: bool) -> Estimate:
        """Device-hours of the whole run, from its first step to its last."""
        run = record.run
        images = run.experiment.total_steps * run.experiment.recipe.global_batch
        if not images:
            return Estimate(None, "evaluates only")
        measured = list(self._measured_speeds(record, on_gpu=on_gpu))
        if measured:
            return Estimate(images / statistics.median(measured) / 3600, "measured")
        if not on_gpu:
            return Estimate(None, "not measured yet")
        # backward costs twice the forward pass
        per_image = 3 * multiply_adds(run.experiment.model)
        source = "A100, 35 % of peak"
        if run.teacher is not None:
            per_image += multiply_adds(run.teacher.experiment.model)
        elif run.experiment.recipe.teacher is not None:
            # timm knows its cost: too heavy a question for a plan
            source += ", without the teacher"
        return Estimate(2 * per_image * images / A100_FLOPS / 3600, source)

    def _measured_speeds(self, record: RunRecord, *, on_gpu: bool) -> Iterator[float]:
        """Images a second and device of this run, else of runs of the same model."""
        others = [record] if record.run.metrics_path.exists() else self._of_same_model(record.run)
        for other in others:
            speed = _speed(other, on_gpu=on_gpu)
            if speed:
                yield speed

    def _of_same_model(self, run: Run) -> list[RunRecord]:
        found = map(self._record, sorted(run.dir.parent.glob("seed*")))
        return [r for r in found if r and r.run.experiment.model == run.experiment.model]

    def _record(self, directory: Path) -> RunRecord | None:
        """The record of a run directory; None where it holds no run."""
        if directory not in self._records:
            self._records[directory] = None
            with suppress(ResultError):
                self._records[directory] = RunRecord.read(Run.load(directory))
        return self._records[directory]


def _speed(record: RunRecord, *, on_gpu: bool) -> float | None:
    types = {attempt.device_type for attempt in record.attempts if attempt.device_type}
    if any((device_type == "cuda") is not on_gpu for device_type in types):
        # a few steps tried on a CPU say nothing about a GPU
        return None
    result = record.result or {}
    if is_number(result.get("images_per_s")):
        return float(result["images_per_s"]) / int(result.get("world_size", 1))
    worlds = {attempt.number: attempt.world_size for attempt in record.attempts}
    speeds = [
        r[IMAGES_PER_SECOND] / worlds.get(r.get("attempt", 0), 1)
        for r in record.all_metrics
        if is_number(r.get(IMAGES_PER_SECOND))
    ]
    return statistics.median(speeds) if speeds else None
