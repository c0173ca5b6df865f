"""Speeds that doctor measured on a site, in results/doctor/<profile>.json.

{"time", "speeds": [{"model", "teacher", "device_type", "images_per_s", ...}]}: a speed for each
model; a later measurement replaces that of the same model and device.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from antioversmooth import files
from antioversmooth.config import ModelConfig, as_recorded
from antioversmooth.finding import Finding
from antioversmooth.runs import Run
from antioversmooth.runs.identity import to_json
from antioversmooth.shapes import Bounds, misfits

_SHAPE = {
    "time": float,
    "speeds": [
        {
            "model": dict,
            "teacher": (str, None),
            "device_type": str,
            # far below what any device does
            "images_per_s": Bounds(1e-9),
        }
    ],
}


def speeds_path(results: Path, profile: str) -> Path:
    """The file of the speeds of a cluster profile.

    Args:
        results: The results folder of the runs.
    """
    return results / "doctor" / f"{profile}.json"


@dataclass(frozen=True)
class Speeds:
    """Measured speeds, by a key of model, teacher and device."""

    entries: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, path: Path) -> Speeds:
        """The speeds in a file; none where it is not there, or is another file."""
        content = files.read_mapping(path)
        entries = [] if any(misfits(content, _SHAPE)) else content["speeds"]
        return cls({_key(entry): entry for entry in entries})

    def find(self, run: Run, *, on_gpu: bool) -> float | None:
        """Images a second and device at which the model of a run trains; None: not measured."""
        if not self.entries:
            return None
        found = self.entries.get(_key(_subject(run, "cuda" if on_gpu else "cpu")))
        return float(found["images_per_s"]) if found else None


def record_speeds(path: Path, runs: Sequence[Run], measured: Iterable[Mapping[str, Any]]) -> None:
    """Adds measured speeds to a file.

    Args:
        measured: Values of `Speed` (training/probes/request.py), of several ranks of each run.
    """
    by_run: dict[str, list[Mapping[str, Any]]] = {}
    for values in measured:
        by_run.setdefault(Path(str(values.get("run"))).name, []).append(values)
    entries = dict(Speeds.read(path).entries)
    for run in runs:
        if values_of_run := by_run.get(run.dir.name):
            speed = statistics.median(float(one["images_per_s"]) for one in values_of_run)
            first = values_of_run[0]
            subject = _subject(run, str(first["device_type"]))
            entries[_key(subject)] = {**first, **subject, "run": run.name, "images_per_s": speed}
    if by_run:
        files.write_json(path, {"time": time.time(), "speeds": list(entries.values())})


def values_of_speeds(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Values of the findings that measured a speed."""
    # a room that is imported where it is used: it belongs to the nodes
    from antioversmooth.training.probes.request import TRAINING_SPEED

    return [
        finding.values
        for finding in findings
        if finding.check == TRAINING_SPEED and "images_per_s" in finding.values
    ]


def _subject(run: Run, device_type: str) -> dict[str, Any]:
    """The facts of a run that its speed depends on."""
    experiment = run.experiment
    return {
        "model": to_json(experiment.model),
        "teacher": experiment.recipe.teacher,
        "device_type": device_type,
    }


def _key(entry: Mapping[str, Any]) -> str:
    """Equal for equal models, teachers and devices."""
    model = as_recorded(ModelConfig, entry["model"])
    return json.dumps([model, entry["teacher"], entry["device_type"]], sort_keys=True)
