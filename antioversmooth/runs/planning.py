"""From experiments and seeds to runs, those that others need first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from antioversmooth.config import Experiment
from antioversmooth.errors import SpecError
from antioversmooth.runs.directory import Run
from antioversmooth.runs.science import ORIGINS, identity, origin, weights


def profile_folder(results: Path, profile: str) -> Path:
    """Where runs and tables of a profile lie: one that is not the paper's has its own folder, lest it be mistaken."""
    return results if profile == "imagenet" else results / profile


Upstream = Callable[[str], Experiment]
"""Finds the experiment that `init_from: run:<name>` or `teacher: run:<name>` names."""


def plan(experiments: Iterable[Experiment], seeds: Iterable[int], results: Path, upstream: Upstream) -> list[Run]:
    """One run for each experiment and seed, those that others need first, each only once.

    Args:
        results: The results folder; runs go to its `runs/`.
    """
    seeds = list(seeds)
    planned: dict[str, Run] = {}
    for experiment in experiments:
        for seed in seeds:
            run = _plan_one(experiment, seed, results, upstream, ())
            for needed in _with_needs(run):
                planned.setdefault(needed.id, needed)
    return list(planned.values())


def _plan_one(experiment: Experiment, seed: int, results: Path, upstream: Upstream, chain: tuple[str, ...]) -> Run:
    before: dict[str, Run] = {}
    for field, role in ORIGINS.items():
        kind, name = origin(experiment, field)
        if kind != "run":
            continue
        if name in (*chain, experiment.name):
            raise SpecError(f"{name} would need itself", where=f"{experiment.name}: recipe.{field}")
        before[role] = _plan_one(upstream(name), seed, results, upstream, (*chain, experiment.name))
    if "teacher" in before:
        _require_same_kind_of_data(experiment, before["teacher"].experiment)
    run_id = identity(experiment, seed, weights(experiment, before))
    directory = results / "runs" / experiment.name / f"seed{seed}-{run_id[:8]}"
    return Run(experiment, seed, run_id, directory, **before)


def _require_same_kind_of_data(experiment: Experiment, teacher: Experiment) -> None:
    for key in ("num_classes", "in_channels"):
        own, theirs = getattr(experiment.data, key), getattr(teacher.data, key)
        if own != theirs:
            raise SpecError(
                f"{teacher.name} has data.{key} = {theirs}, and cannot teach where it is {own}",
                where=f"{experiment.name}: recipe.teacher",
            )


def _with_needs(run: Run) -> Iterator[Run]:
    for needed in run.needs:
        yield from _with_needs(needed)
    yield run
