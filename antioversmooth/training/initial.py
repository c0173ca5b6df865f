"""The weights that a run starts from."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from antioversmooth.errors import CheckpointError
from antioversmooth.models.weights import LoadReport, load_timm, load_weights
from antioversmooth.runs import Run
from antioversmooth.training.checkpoint import Checkpoint


def load_initial_weights(model: nn.Module, run: Run) -> LoadReport:
    """Puts the weights that `recipe.init_from` names into the model, and returns what became of their keys.

    Raises:
        CheckpointError: They are missing, or not for this model.
    """
    recipe = run.experiment.recipe
    kind, _, name = (recipe.init_from or "").partition(":")
    if kind == "timm":
        return load_timm(model, name, allow_missing=recipe.init_allow_missing)
    source = Path(name) if kind == "file" else _final_weights(run)
    return load_weights(model, source, allow_missing=recipe.init_allow_missing)


def _final_weights(run: Run) -> Path:
    """The final checkpoint of the run that this one starts from."""
    assert run.upstream is not None  # runs.plan and Run.load see to it
    result = run.upstream.result()
    final = (result or {}).get("checkpoint")
    if final is None:
        raise CheckpointError(f"{run.name} starts from {run.upstream.name}, which has not ended: {run.upstream.dir}")
    path = run.upstream.checkpoints_dir / str(final["file"])
    if not Checkpoint.at(path).is_whole():
        raise CheckpointError(f"{path} is missing or torn; it is what {run.name} starts from")
    return path
