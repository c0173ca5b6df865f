"""The result of a finished run, `result.json`, gathered from the journal of all attempts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from torch import nn

from antioversmooth import files
from antioversmooth.models.measure import count_parameters, multiply_adds
from antioversmooth.runs import Run, journal
from antioversmooth.runs.attempts import extend_last_seen
from antioversmooth.runs.result import effort, outcome
from antioversmooth.training.evaluator import Evaluation
from antioversmooth.training.run.attempt import Attempt
from antioversmooth.training.run.checkpoint import find_flaw


def write_result(
    attempt: Attempt,
    model: nn.Module,
    data: Mapping[str, object],
    *,
    similarity: Mapping[str, Any],
    evaluation: Evaluation | None,
) -> None:
    """Writes `result.json`, which makes the run done.

    Args:
        data: Counts and checksums of the data.
        similarity: Between tokens, after each block of the final model: the fields of a
            `TokenSimilarity`, and the number of `images` it was measured on.
        evaluation: Of a run that only evaluates: what it found, kept class by class.
    """
    run, config = attempt.run, attempt.run.experiment
    side, finished = config.model.image_size, time.time()
    files.write_json(
        run.dir / "result.json",
        {
            "id": run.id,
            "experiment": config.name,
            "seed": run.seed,
            **outcome(run.metrics(), config),
            "epochs": config.recipe.epochs,
            "steps": config.total_steps,
            "parameters": count_parameters(model),
            "gmacs": multiply_adds(model, (config.data.in_channels, side, side)),
            "device": attempt.ranks.device_name,
            "world_size": attempt.ranks.world_size,
            **effort(extend_last_seen(run.attempts(), journal.read(run.metrics_path)), finished),
            "checkpoint": _final_checkpoint(run),
            "similarity": dict(similarity),
            **({"evaluation": evaluation.detail()} if evaluation else {}),
            "data": {
                "name": config.data.name,
                "root": config.data.root,
                **data,
            },
            "finished": finished,
        },
    )


def _final_checkpoint(run: Run) -> dict[str, str] | None:
    for checkpoint in run.checkpoints():
        if checkpoint.step == run.experiment.total_steps and find_flaw(run, checkpoint) is None:
            return {"file": checkpoint.path.name, "sha256": checkpoint.checksum}
    return None
