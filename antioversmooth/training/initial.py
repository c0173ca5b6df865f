"""The weights that a run starts from."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from antioversmooth.errors import CheckpointError
from antioversmooth.runs import Run


def load_initial_weights(model: nn.Module, run: Run) -> None:
    """Puts the weights that `recipe.init_from` names into the model.

    Raises:
        CheckpointError: They are missing, or not for this model.
    """
    from antioversmooth.models.weights import load_timm, load_weights

    recipe = run.experiment.recipe
    kind, _, name = (recipe.init_from or "").partition(":")
    if kind == "timm":
        load_timm(model, name, allow_missing=recipe.init_allow_missing)
    else:
        path = Path(name) if kind == "file" else _final_weights(run)
        load_weights(model, path, allow_missing=recipe.init_allow_missing)


def _final_weights(run: Run) -> Path:
    """The final checkpoint of the run that this one starts from."""
    assert run.upstream is not None  # runs.plan and Run.load see to it
    result = run.upstream.result()
    if result is None or result["checkpoint"] is None:
        raise CheckpointError(f"{run.name} starts from {run.upstream.name}, which is not finished: {run.upstream.dir}")
    return run.upstream.checkpoints_dir / str(result["checkpoint"]["file"])
