"""The result of a run that is done."""

from __future__ import annotations

from typing import Any

from antioversmooth import files
from antioversmooth.runs import Run, journal
from antioversmooth.runs.result import outcome

RESULT: dict[str, Any] = {
    "metrics": {"val/top1": 91.5},
    "best": None,
    "start": None,
    "parameters": 1,
    "gmacs": 0.1,
    "images_per_s": 1.0,
    "device": "CPU",
    "world_size": 1,
    "device_hours": 0.1,
    "checkpoint": None,
}
"""The smallest valid result."""


def finish(run: Run, **changes: Any) -> Run:
    """Completes a run, with the evaluation of its last step in the journal, and returns it.

    Args:
        changes: Other values of its result than those that follow from its journals.
    """
    run.dir.mkdir(parents=True, exist_ok=True)
    last = {"step": run.experiment.total_steps, "epoch": run.experiment.recipe.epochs}
    journal.append(run.metrics_path, {**last, **changes.get("metrics", RESULT["metrics"])})
    seconds = sum((one.ended or one.last_seen) - one.started for one in run.attempts())
    found = outcome(run.metrics(), run.experiment) | {"device_hours": seconds / 3600}
    del found["images_per_s"]
    files.write_json(run.dir / "result.json", {"id": run.id, **RESULT, **found, **changes})
    return run
