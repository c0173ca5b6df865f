"""`--eval`: each evaluation is an experiment of its own, planned and launched as any other."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from antioversmooth import runs
from antioversmooth.config import Distillation, Experiment
from antioversmooth.errors import LaunchError
from antioversmooth.runs import Run
from antioversmooth.spec import Request


def plan_evaluations(request: Request, seeds: Sequence[int], results: Path) -> list[Run]:
    """Runs that evaluate the trained runs of a request.

    Raises:
        LaunchError: A run is not trained yet.
    """
    folder = request.results(results)
    planned = [
        run
        for experiment in request.experiments
        for run in _plan_evaluation(experiment, request, seeds, folder)
    ]
    trained_runs = [run.upstream for run in planned if run.upstream]
    missing = [run.name for run in trained_runs if run.result() is None]
    if missing:
        raise LaunchError(f"not trained yet: {', '.join(missing)}; launch without --eval first")
    return planned


def _plan_evaluation(
    experiment: Experiment, request: Request, seeds: Sequence[int], folder: Path
) -> list[Run]:
    """The runs that evaluate one experiment, without those that they need."""

    def upstream(name: str) -> Experiment:
        return experiment if name == experiment.name else request.upstream(experiment, name)

    evaluation = as_evaluation(experiment)
    planned = runs.plan([evaluation], seeds, folder, upstream)
    return [run for run in planned if run.experiment is evaluation]


def as_evaluation(experiment: Experiment) -> Experiment:
    """An experiment that evaluates the final weights of another; itself if it trains nothing."""
    if experiment.recipe.epochs == 0:
        return experiment
    recipe = dataclasses.replace(
        experiment.recipe,
        epochs=0,
        warmup_epochs=0.0,
        init_from=f"run:{experiment.name}",
        distillation=Distillation.none,
        teacher=None,
        teacher_model=None,
    )
    name, title = f"{experiment.name}_eval", f"{experiment.title}, evaluated"
    row = f"{experiment.row}_eval" if experiment.row else ""
    return dataclasses.replace(experiment, name=name, row=row, title=title, recipe=recipe)
