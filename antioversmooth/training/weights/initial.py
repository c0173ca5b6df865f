"""The weights that a run starts from, or learns from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from antioversmooth.config import Experiment
from antioversmooth.errors import CheckpointError
from antioversmooth.models import build_model
from antioversmooth.models.load_report import LoadReport
from antioversmooth.models.weights import Purpose, load_timm, load_weights
from antioversmooth.runs import Run
from antioversmooth.runs.checkpoints import Checkpoint
from antioversmooth.training.randomness import seed_everything, seed_for
from antioversmooth.training.run.checkpoint import require_valid
from antioversmooth.training.weights.recorded import require_same_function


def new_model(config: Experiment, seed: int) -> nn.Module:
    """The experiment's model with random weights, a function of the seed."""
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
    """Loads the weights of `recipe.init_from` into the model; reports what was done with each key.

    Raises:
        CheckpointError: They are missing, or of another model; or the run trains nothing, and they
            have another classifier or form, or lack a parameter.
    """
    recipe = run.experiment.recipe
    purpose = Purpose.evaluation if recipe.epochs == 0 else Purpose.training
    options: dict[str, Any] = {"purpose": purpose, "allow_missing": recipe.init_allow_missing}
    kind, _, name = (recipe.init_from or "").partition(":")
    if kind == "timm":
        return load_timm(model, name, **options)
    if kind == "file":
        run.require_file("init_from")
        source = Path(name)
    else:
        # set by runs.plan and Run.load
        assert run.upstream is not None
        source = final_checkpoint(run.upstream, f"{run.name} starts from it")
    if purpose is Purpose.evaluation:
        require_same_function(source, run.experiment)
    return load_weights(model, source, **options)


def final_checkpoint(run: Run, relation: str = "") -> Path:
    """Path of the final checkpoint of a run.

    Args:
        relation: Who needs it, for messages: "deit_s12 seed 0 starts from it".

    Raises:
        CheckpointError: The run is not done, or the file is missing or not its final checkpoint.
        ResultError: The result of the run is invalid.
    """
    needed = f"; {relation}" if relation else ""
    result = run.result()
    if result is None:
        raise CheckpointError(f"{run.name} is not done{needed}: {run.dir}")
    final = result["checkpoint"]
    if final is None:
        raise CheckpointError(f"{run.name} has no checkpoint{needed}: {run.dir}")
    checkpoint = Checkpoint.at(run.checkpoints_dir / str(final.get("file")))
    if checkpoint.checksum != final.get("sha256") and checkpoint.path.is_file():
        raise CheckpointError(f"{checkpoint.path} is not what result.json names{needed}")
    require_valid(run, checkpoint, relation)
    return checkpoint.path
