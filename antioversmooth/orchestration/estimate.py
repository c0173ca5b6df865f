"""How long a run will take: by runs of its model, by doctor's steps, else by its arithmetic."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from antioversmooth.errors import ResultError
from antioversmooth.orchestration.doctor.speeds import Speeds, speeds_path
from antioversmooth.runs import Run
from antioversmooth.runs.arithmetic import multiply_adds
from antioversmooth.runs.record import RunRecord, read_records

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
    """Estimates many runs; each run directory is read once, and each speed computed once."""

    def __init__(self, records: Iterable[RunRecord]) -> None:
        """Takes records that are read already."""
        self._known = {record.run.dir: record for record in records}
        self._of_row: dict[Path, list[RunRecord]] = {}
        self._typical: dict[tuple[Path, str, bool], float | None] = {}
        self._by_doctor: dict[Path, Speeds] = {}

    def estimate(self, record: RunRecord, *, on_gpu: bool) -> Estimate:
        """Device-hours of the whole run, from its first step to its last."""
        run = record.run
        images = run.experiment.total_steps * run.experiment.recipe.global_batch
        if not images:
            return Estimate(None, "evaluates only")
        if speed := self._measured_speed(record, on_gpu=on_gpu):
            return Estimate(images / speed / 3600, "measured")
        if speed := self._speed_by_doctor(run, on_gpu=on_gpu):
            return Estimate(images / speed / 3600, "measured by doctor")
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

    def _measured_speed(self, record: RunRecord, *, on_gpu: bool) -> float | None:
        """Images a second and device of this run, else the median of runs of the same model."""
        if record.run.metrics_path.exists():
            return _speed(record, on_gpu=on_gpu)
        row, model = record.run.dir.parent, _model_key(record.run)
        key = (row, model, on_gpu)
        if key not in self._typical:
            others = [other for other in self._records(row) if _model_key(other.run) == model]
            speeds = [speed for other in others if (speed := _speed(other, on_gpu=on_gpu))]
            self._typical[key] = statistics.median(speeds) if speeds else None
        return self._typical[key]

    def _speed_by_doctor(self, run: Run, *, on_gpu: bool) -> float | None:
        """Images a second and device of the same model on the run's site."""
        # <results>/runs/<row>/seed<k>-<id>
        path = speeds_path(run.dir.parents[2], run.experiment.cluster.name)
        if path not in self._by_doctor:
            self._by_doctor[path] = Speeds.read(path)
        return self._by_doctor[path].find(run, on_gpu=on_gpu)

    def _records(self, row: Path) -> list[RunRecord]:
        """The records of all runs in the folder of a row that have measured anything."""
        if row not in self._of_row:
            directories = sorted(path.parent for path in row.glob("seed*/metrics.jsonl"))
            self._of_row[row] = [r for path in directories if (r := self._record(path))]
        return self._of_row[row]

    def _record(self, directory: Path) -> RunRecord | None:
        """The record of a run directory; None where it holds no run."""
        if directory in self._known:
            return self._known[directory]
        with suppress(ResultError):
            (record,) = read_records([Run.load(directory)], traced=True)
            return record
        return None


def _model_key(run: Run) -> str:
    """Equal for equal models, and cheap to look up."""
    return repr(run.experiment.model)


def _speed(record: RunRecord, *, on_gpu: bool) -> float | None:
    types = {attempt.device_type for attempt in record.attempts if attempt.device_type}
    if any((device_type == "cuda") is not on_gpu for device_type in types):
        # a few steps tried on a CPU say nothing about a GPU
        return None
    return record.trace.device_speed
