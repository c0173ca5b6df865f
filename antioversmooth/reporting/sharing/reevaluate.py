"""Evaluates the weights of a run again, and compares accuracy and loss with its result.

A result that was forged together with its journal is found only so. The evaluation is a process of
its own (`antioversmooth evaluate --json`), so that this one needs no torch.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from antioversmooth import files
from antioversmooth.errors import DataError
from antioversmooth.reporting.sharing.checks import Check, Verdict
from antioversmooth.reporting.table.observe import Observation
from antioversmooth.runs import Run, recorded_data
from antioversmooth.runs.metrics import EMA_TOP1, EMA_TOP5, VAL_LOSS, VAL_TOP1, VAL_TOP5

EXACT_LOSS = 1e-6
"""Relative difference of losses on the same device with the same torch; accuracies are equal."""
NEAR_LOSS = 1e-2
"""Relative difference of losses on another device, or with another torch."""
NEAR_POINTS = 0.2
"""Difference of accuracies there, in points; where one image is more, one image."""


class NotEvaluated(Exception):
    """Why the weights of a run could not be evaluated."""


def evaluation_checks(name: str, seen: Observation, *, root: Path | None = None) -> Iterator[Check]:
    """Checks of the accuracies and the loss in a result against another evaluation of its weights.

    Args:
        name: Begins the keys: seed 0.
        root: The folder of the images, where they are not where the run had them.
    """
    assert seen.result is not None
    recorded = seen.result["metrics"]
    try:
        target = _weights(seen.run, seen.result)
        _require_same_data(seen.run, seen.result, root)
        found = _evaluate(target, root)
        scores = {key: found[key] for key in (VAL_TOP1, VAL_TOP5, VAL_LOSS)}
        if EMA_TOP1 in recorded:
            average = _evaluate(target, root, "--average")
            scores |= {EMA_TOP1: average[VAL_TOP1], EMA_TOP5: average[VAL_TOP5]}
    except NotEvaluated as err:
        yield Check(f"{name}: evaluation", Verdict.gone, reason=f"not evaluated again: {err}")
        return
    exactly = _is_same_machine(seen, found)
    for key in (key for key in scores if key in recorded):
        yield _compare(f"{name}: evaluation.{key}", recorded[key], scores[key], found, exactly)


def _weights(run: Run, result: dict[str, Any]) -> Path:
    """The checkpoint that a result names; the directory of a run that only evaluates."""
    if run.experiment.recipe.epochs == 0:
        return run.dir
    final = result["checkpoint"] or {}
    path = run.checkpoints_dir / Path(str(final.get("file"))).name
    if not path.is_file():
        raise NotEvaluated(f"there is no {path}")
    if files.sha256(path) != final.get("sha256"):
        raise NotEvaluated(f"{path} is not the file that result.json names")
    return path


def _require_same_data(run: Run, result: dict[str, Any], root: Path | None) -> None:
    """Raises NotEvaluated unless the images are those that the run was evaluated on."""
    # imports numpy
    from antioversmooth.datasets.dataset import open_dataset

    try:
        data = run.experiment.data
        data = replace(data, root=str(root)) if root else data
        found = open_dataset(data).checksums()
    except DataError as err:
        raise NotEvaluated(str(err)) from err
    before = {**(result.get("data") or {}), **recorded_data(run.dir)}
    known = [key for key in found if before.get(key)]
    if not known:
        raise NotEvaluated("the run did not record which images it was evaluated on")
    for key in known:
        if before[key] != found[key]:
            raise NotEvaluated(
                f"{data.root or data.name} holds other images than the run was evaluated on"
                f" ({key} {str(before[key])[:12]} then, {found[key][:12]} now)"
            )


def _evaluate(target: Path, root: Path | None, *options: str) -> dict[str, Any]:
    """The record that `antioversmooth evaluate` prints."""
    command = [sys.executable, "-m", "antioversmooth", "evaluate", str(target), "--json", *options]
    command += ["--data", str(root)] if root else []
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    try:
        found = json.loads(done.stdout) if done.returncode == 0 else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise NotEvaluated(lines[-1])
    return found


def _is_same_machine(seen: Observation, found: dict[str, Any]) -> bool:
    """Whether the run evaluated as this machine does: on its device alone, with its torch."""
    result, torch = seen.result or {}, seen.versions.get("torch", [""])[-1]
    here = (result.get("device"), result.get("world_size")) == (found.get("device"), 1)
    return here and torch == version("torch")


def _compare(key: str, recorded: float, value: float, found: dict[str, Any], exact: bool) -> Check:
    """The check of a number.

    Args:
        found: The record of the evaluation.
        exact: Whether the two evaluations must agree to rounding.
    """
    if key.endswith(VAL_LOSS):
        allowed = (EXACT_LOSS if exact else NEAR_LOSS) * abs(value)
    else:
        allowed = 1e-9 if exact else max(NEAR_POINTS, 100 / found["num_images"] + 1e-9)
    if abs(recorded - value) <= allowed:
        return Check(key, Verdict.confirmed, recorded, value)
    where = "the same device and torch" if exact else "another device or torch"
    reason = (
        f"result.json says {recorded}, its weights give {value}; on {where} they may differ by"
        f" {allowed:.2g}"
    )
    return Check(key, Verdict.differs, recorded, value, reason)
