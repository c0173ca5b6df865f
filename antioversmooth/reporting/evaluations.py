"""The numbers of an evaluation without training, as JSON and as text."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antioversmooth.config import DataConfig, Experiment
from antioversmooth.datasets.passed_over import PassedOver
from antioversmooth.reporting.table import deviations
from antioversmooth.runs import Run, to_json
from antioversmooth.runs.recorded_data import (
    describe_change,
    describe_change_of_weights,
    measured_data,
)
from antioversmooth.text import counted

if TYPE_CHECKING:
    # Imports torch.
    from antioversmooth.training.weights.evaluate import WeightsEvaluation


def record(
    target: Path, experiment: Experiment, measured: WeightsEvaluation, other: DataConfig | None
) -> dict[str, Any]:
    """The evaluation of a run or a checkpoint, as JSON: subject, data, load report and numbers.

    The accuracy of a class without images is null.

    Args:
        other: The data that was given instead of the experiment's, if any.
    """
    evaluation, found, data = measured.evaluation, measured.data, other or experiment.data
    change = describe_change_of_weights(target, measured.checksums)
    return {
        **_subject(str(target), experiment),
        "data": data.name,
        "root": data.root and os.path.normpath(os.path.join(data.root, data.val or "")),
        "fingerprint": found.fingerprint,
        "num_classes": len(found.classes),
        "passed_over": found.passed_over,
        **({"changed": change} if change else {}),
        "classes_matched": measured.classes.description,
        "classes": list(found.classes),
        "loaded": measured.report.lines(),
        "load_report": asdict(measured.report),
        **evaluation.metrics(),
        **evaluation.detail(),
        "device": evaluation.device,
    }


def of_run(run: Run) -> dict[str, Any] | None:
    """The same record of a run that only evaluates; None until it is done."""
    result = run.result()
    if result is None or "evaluation" not in result:
        return None
    weights = str(run.upstream.dir) if run.upstream else str(run.experiment.recipe.init_from)
    counts = (result.get("start") or {}).get("weights") or {}
    return {
        **_subject(weights, run.experiment),
        "loaded": [", ".join(f"{key} {value}" for key, value in counts.items())] if counts else [],
        "data": run.experiment.data.name,
        "fingerprint": measured_data(result).get("fingerprint"),
        "num_classes": run.experiment.data.num_classes,
        **_change_since_training(run, measured_data(result)),
        **result["metrics"],
        **result["evaluation"],
        "device": result["device"],
    }


def _change_since_training(run: Run, found: dict[str, Any]) -> dict[str, str]:
    """How the data of the trained run differs from that of its evaluation, if it should not."""
    trained = run.upstream
    if trained is None or trained.experiment.data.name != run.experiment.data.name:
        return {}
    change = describe_change(trained.result() or {}, found)
    return {"changed": f"{trained.name} was {change}"} if change else {}


def _subject(weights: str, experiment: Experiment) -> dict[str, Any]:
    return {
        "weights": weights,
        "experiment": experiment.name,
        "title": experiment.title,
        "forms": list(deviations.of_model(experiment.model)),
        "model": to_json(experiment.model),
    }


def text(record: dict[str, Any]) -> str:
    """A record as lines of text, without the accuracy of each class."""
    lines = [
        ("weights", record["weights"]),
        *(("loaded", line) for line in record["loaded"]),
        ("model", record["title"]),
        *(("form", form) for form in record["forms"]),
        ("data", _describe_data(record)),
        *(("changed", record[key]) for key in ("changed",) if key in record),
        *(("classes", record[key]) for key in ("classes_matched",) if key in record),
        *(("left out", f"{name} (cannot be read)") for name in record["unreadable"]),
        ("top-1", f"{record['val/top1']:.2f} %"),
        ("top-5", f"{record['val/top5']:.2f} %"),
        ("loss", f"{record['val/loss']:.4f}"),
        ("speed", f"{record['images_per_s']:.0f} images/s, loading included"),
    ]
    return "\n".join(f"{name:<9}{value}" for name, value in lines)


def _describe_data(record: dict[str, Any]) -> str:
    fingerprint, passed = record.get("fingerprint"), PassedOver(record.get("passed_over", {}))
    marked = f" (fingerprint {fingerprint[:12]})" if fingerprint else ""
    root = f" in {record['root']}" if record.get("root") else ""
    return (
        f"{record['data']}{root}: {counted(record['num_images'], 'validation image')} of"
        f" {record['num_classes']:,} classes{marked}{passed.note()}"
    )
