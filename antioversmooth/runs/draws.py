"""Versions of a training's random draws, and the runs that cannot go on with those of this code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from antioversmooth.config import RecipeConfig
from antioversmooth.errors import and_more
from antioversmooth.runs.attempts import Attempt
from antioversmooth.runs.directory import Run
from antioversmooth.runs.planning import profile_folder
from antioversmooth.runs.record import RunRecord

DRAWS = 3
"""Version of the definitions of the draws (`training/randomness.py` and those that call it)."""

CHANGES: Mapping[int, Mapping[str, Callable[[RecipeConfig], bool]]] = {
    2: {
        "masks of dropout": lambda recipe: recipe.dropout > 0 or recipe.attention_dropout > 0,
        "factors of drop path": lambda recipe: recipe.drop_path > 0,
        "erased rectangles": lambda recipe: recipe.random_erasing > 0,
    },
    3: {
        "noise of erased rectangles": lambda recipe: (
            recipe.random_erasing > 0 and recipe.erasing_mode != "const"
        ),
    },
}
"""Draws that a version makes in another way than the one before, and whether a recipe has them.

2: the draws of a forward pass are made together. 3: noise for the pixels of rectangles alone.
"""


def changed_draws(recipe: RecipeConfig, began_with: int) -> list[str]:
    """Names of draws that a run makes now in another way than under the version it began with."""
    if began_with > DRAWS:
        return ["random numbers"]
    later = [CHANGES[version] for version in range(began_with + 1, DRAWS + 1)]
    return [name for changed in later for name, draws in changed.items() if draws(recipe)]


def launch_refused_reason(record: RunRecord) -> str:
    """Why this code does not go on with a run, as far as attempts.jsonl tells; else empty.

    A run at its last step has no draws to make.
    """
    newest, start = next(iter(record.all_checkpoints), None), _first_start(record.attempts)
    if newest is None or newest.step >= record.run.experiment.total_steps or not start:
        return ""
    version = start.get("draws")
    # the first version was not recorded
    return other_draws_reason(record.run, record.attempts, version if type(version) is int else 1)


def other_draws_reason(run: Run, attempts: Sequence[Attempt], began_with: int) -> str:
    """Why a run that began with this version cannot go on with ours; empty where it can."""
    changed = changed_draws(run.experiment.recipe, began_with)
    if not changed:
        return ""
    commit = _first_start(attempts).get("commit")
    code = f"commit {str(commit)[:12]}" if commit else "code whose commit is not recorded"
    return (
        f"{run.name} ({run.id[:8]}) was started by {code}, which draws {and_more(changed, 3)} in"
        f" another way (version {began_with} of the draws, here {DRAWS}). To continue it, launch"
        f" the same row from a checkout of that code with cluster.results={_results(run)}; to start"
        f" it again with this code, move {run.dir} away"
    )


def _first_start(attempts: Sequence[Attempt]) -> Mapping[str, Any]:
    """The record of the start that the run began with; later ones went on from its checkpoints."""
    return next((a.start for a in reversed(attempts) if a.step == 0), {})


def _results(run: Run) -> Path:
    """The value of `cluster.results` for the folder that the run lies in."""
    folder = run.dir.parents[2]
    is_of_profile = profile_folder(folder.parent, run.experiment.profile) == folder
    return folder.parent if is_of_profile else folder
