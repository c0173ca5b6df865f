"""How long a run will take: measured where anything of its kind has run, else from its
arithmetic."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from antioversmooth import files
from antioversmooth.config import Experiment, Family, ModelConfig
from antioversmooth.errors import ResultError
from antioversmooth.runs import Run, journal
from antioversmooth.runs.metrics import IMAGES_PER_SECOND, is_number

A100_FLOPS = 312e12 * 0.35
"""Operations a second that training gets out of an A100: 35 % of its bfloat16 peak."""


@dataclass(frozen=True)
class Estimate:
    """Hours that a run occupies devices."""

    device_hours: float | None
    """Devices times hours; None where it cannot be said."""
    source: str
    """Where the number comes from, for people."""


def estimate(run: Run, *, on_gpu: bool) -> Estimate:
    """Device-hours of the whole run, from its first step to its last."""
    images = run.experiment.total_steps * run.experiment.recipe.global_batch
    if not images:
        return Estimate(None, "evaluates only")
    measured = list(_measured_speeds(run, on_gpu=on_gpu))
    if measured:
        return Estimate(images / statistics.median(measured) / 3600, "measured")
    if not on_gpu:
        return Estimate(None, "not measured yet")
    # backward costs twice the forward pass
    per_image = 3 * multiply_adds(run.experiment)
    source = "A100, 35 % of peak"
    if run.teacher is not None:
        per_image += multiply_adds(run.teacher.experiment)
    elif run.experiment.recipe.teacher is not None:
        # what it costs, timm knows: too heavy a question for a plan
        source += ", without the teacher"
    return Estimate(2 * per_image * images / A100_FLOPS / 3600, source)


def _measured_speeds(run: Run, *, on_gpu: bool) -> Iterator[float]:
    """Images a second and device of this run, else of runs of the same model (other seeds, other
    recipes)."""
    if run.metrics_path.exists():
        others = [run.dir]
    else:
        others = [
            directory
            for directory in sorted(run.dir.parent.glob("seed*"))
            if _is_of_its_model(directory, run)
        ]
    for directory in others:
        speed = _speed(directory, on_gpu=on_gpu)
        if speed:
            yield speed


def _is_of_its_model(directory: Path, run: Run) -> bool:
    with suppress(ResultError):
        return Run.load(directory).experiment.model == run.experiment.model
    return False


def _speed(directory: Path, *, on_gpu: bool) -> float | None:
    starts = [
        r for r in journal.read_attempts(directory / "attempts.jsonl") if r["event"] == "start"
    ]
    if any((r["device_type"] == "cuda") is not on_gpu for r in starts if "device_type" in r):
        # a few steps tried on a CPU say nothing about a GPU
        return None
    result = _result(directory)
    if is_number(result.get("images_per_s")):
        return float(result["images_per_s"]) / int(result.get("world_size", 1))
    worlds = {r["attempt"]: r.get("world_size", 1) for r in starts}
    records = [
        r for r in journal.read(directory / "metrics.jsonl") if is_number(r.get(IMAGES_PER_SECOND))
    ]
    speeds = [r[IMAGES_PER_SECOND] / worlds.get(r.get("attempt"), 1) for r in records]
    return statistics.median(speeds) if speeds else None


def _result(directory: Path) -> dict[str, Any]:
    """The result of a run; nothing where it is not done, or torn: for an estimate its journal will
    do."""
    try:
        return dict(files.read_json(directory / "result.json") or {})
    except ValueError:
        return {}


def multiply_adds(experiment: Experiment) -> float:
    """Multiply-adds of the blocks for one image, forward; embedding, class attention and head are
    under 5 % of it."""
    model = experiment.model
    if model.family is not Family.swin:
        return model.depth * _block(
            model, model.num_tokens, model.embed_dim, reach=model.num_tokens
        )
    total = 0.0
    for stage, depth in enumerate(model.stage_depths):
        tokens, width = model.num_tokens // 4**stage, model.embed_dim * 2**stage
        total += depth * _block(model, tokens, width, reach=min(model.window_size**2, tokens))
    return total


def _block(model: ModelConfig, tokens: int, width: int, *, reach: int) -> float:
    """Of one block: four projections and the MLP, and each token with the `reach` tokens that it
    attends to."""
    return tokens * ((4 + 2 * model.mlp_ratio) * width**2 + 2 * reach * width)
