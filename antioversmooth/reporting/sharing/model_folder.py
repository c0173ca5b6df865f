"""Writes the model of a done run as a folder of the Hugging Face hub.

config.json          architecture, its arguments and the transform, as timm reads them
model.safetensors    the weights, with the record of their model
README.md            the card
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from antioversmooth import files
from antioversmooth.errors import UserError
from antioversmooth.reporting.sharing.model_card import Shared, render
from antioversmooth.reporting.table.observe import observe
from antioversmooth.runs import Run

CARD = "README.md"


def export_model(
    run: Run,
    target: Path,
    *,
    fold: bool = False,
    average: bool = False,
    licence: str | None = None,
) -> Shared:
    """Writes the folder, whole or not at all, from the directory of the run.

    Args:
        target: The folder, which is new.
        fold: Whether to fold the method into the weights, which leaves a plain timm model.
        average: Whether to write the moving average of the weights.
        licence: Of the weights, as the hub names it; None: not stated.

    Raises:
        UserError: The run is not done, has no weights of its own, or they do not fold; or
            `target` is there already.
        ResultError: The result of the run is invalid.
    """
    from antioversmooth.training.weights.hub import write_model

    _require_exportable(run)
    # the folder that is written would replace it: its mode, or what it links to
    if os.path.lexists(target):
        raise UserError(f"{target} is there already; name a new folder, as {target / 'my-model'}")
    parent = target.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    # beside the target, which it becomes by one rename
    with TemporaryDirectory(prefix=f".{target.name}.", dir=parent) as place:
        folder = Path(place) / target.name
        written = write_model(run, folder, fold=fold, average=average, licence=licence)
        shared = Shared(
            seen=observe(run),
            architecture=written.architecture,
            needs_package=written.needs_package,
            average=average,
            folded=fold,
            difference=written.difference,
            licence=licence,
        )
        files.write_atomic(folder / CARD, render(shared))
        # of two that write it at once, the second finds it not empty
        folder.rename(target)
    return shared


def _require_exportable(run: Run) -> None:
    """Raises UserError where a run has no final weights of its own."""
    if run.result() is None:
        raise UserError(f"{run.name} is not done, and has no final weights: {run.dir}; launch it")
    if run.experiment.recipe.epochs == 0:
        raise UserError(
            f"{run.name} trains nothing, and has no weights of its own: they are those of"
            f" {run.experiment.recipe.init_from}"
        )
