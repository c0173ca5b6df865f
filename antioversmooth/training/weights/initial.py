"""The weights that a run starts from."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from antioversmooth.config import Experiment
from antioversmooth.errors import CheckpointError
from antioversmooth.models import build_model
from antioversmooth.models.weights import LoadReport, load_timm, load_weights
from antioversmooth.runs import Run
from antioversmooth.training.randomness import seed_everything, seed_for
from antioversmooth.training.run.checkpoint import Checkpoint


def new_model(config: Experiment, seed: int) -> nn.Module:
    """The experiment's model with random weights, which follow from the seed."""
    seed_everything(seed_for(seed, "weights"))
    recipe = config.recipe
    return build_model(
        config.model,
        num_classes=config.data.num_classes,
        in_channels=config.data.in_channels,
        dropout=recipe.dropout,
        attention_dropout=recipe.attention_dropout,
        drop_path=recipe.drop_path,
    )


def load_initial_weights(model: nn.Module, run: Run) -> LoadReport:
    """Puts the weights that `recipe.init_from` names into the model, and returns what became of
    their keys.

    Raises:
        CheckpointError: They are missing, or not for this model.
    """
    recipe = run.experiment.recipe
    kind, _, name = (recipe.init_from or "").partition(":")
    if kind == "timm":
        return load_timm(model, name, allow_missing=recipe.init_allow_missing)
    if kind == "file":
        run.require_file("init_from")
        return load_weights(model, Path(name), allow_missing=recipe.init_allow_missing)
    # runs.plan and Run.load see to it
    assert run.upstream is not None
    source = final_weights(run, run.upstream, "starts from")
    return load_weights(model, source, allow_missing=recipe.init_allow_missing)


def final_weights(run: Run, needed: Run, how: str) -> Path:
    """The final checkpoint of a run that another one needs.

    Args:
        how: What the one does with the other: starts from, learns from.

    Raises:
        CheckpointError: It has not ended, or its checkpoint is gone.
    """
    final = (needed.result() or {}).get("checkpoint")
    if final is None:
        raise CheckpointError(f"{run.name} {how} {needed.name}, which has not ended: {needed.dir}")
    path = needed.checkpoints_dir / str(final["file"])
    if not Checkpoint.at(path).is_whole():
        raise CheckpointError(f"{path} is missing or torn; it is what {run.name} {how}")
    return path
