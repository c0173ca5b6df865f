"""From experiments and seeds to runs, those that others need first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from antioversmooth.config import Experiment
from antioversmooth.errors import ResultError, SpecError
from antioversmooth.runs.directory import Run
from antioversmooth.runs.identity import (
    ORIGINS,
    file_checksums,
    identity,
    identity_fields,
    origin,
    weight_ids,
)


def profile_folder(results: Path, profile: str) -> Path:
    """Where runs and tables of a profile lie: one that is not the paper's has its own folder, lest
    it be mistaken."""
    return results if profile == "imagenet" else results / profile


Upstream = Callable[[str], Experiment]
"""Finds the experiment that `init_from: run:<name>` or `teacher: run:<name>` names."""


def plan(
    experiments: Iterable[Experiment], seeds: Iterable[int], results: Path, upstream: Upstream
) -> list[Run]:
    """One run for each experiment and seed, those that others need first, each only once.

    Args:
        results: The results folder; runs go to its `runs/`.
    """
    seeds = list(seeds)
    planned: dict[str, Run] = {}
    for experiment in experiments:
        for run in _plan_seeds(experiment, seeds, results, upstream, ()):
            for needed in with_dependencies(run):
                planned.setdefault(needed.id, needed)
    return list(planned.values())


def _plan_seeds(
    experiment: Experiment,
    seeds: list[int],
    results: Path,
    upstream: Upstream,
    chain: tuple[str, ...],
) -> list[Run]:
    """A run for each seed; what all of them share is looked at once."""
    before: dict[str, list[Run]] = {}
    for field, role in ORIGINS.items():
        kind, name = origin(experiment, field)
        if kind != "run":
            continue
        if name in (*chain, experiment.name):
            raise SpecError(f"{name} would need itself", where=f"{experiment.name}: recipe.{field}")
        before[role] = _plan_seeds(
            upstream(name), seeds, results, upstream, (*chain, experiment.name)
        )
    for teacher in before.get("teacher", [])[:1]:
        _require_same_kind_of_data(experiment, teacher.experiment)
    folder = results / "runs" / experiment.name
    science = identity_fields(experiment)
    planned = []
    for number, seed in enumerate(seeds):
        own = {role: runs[number] for role, runs in before.items()}
        taken = weight_ids(experiment, own, _recorded(experiment, seed, folder))
        run_id = identity(science, seed, taken)
        directory = folder / f"seed{seed}-{run_id[:8]}"
        planned.append(Run(experiment, seed, run_id, directory, files=file_checksums(taken), **own))
    return planned


def _recorded(experiment: Experiment, seed: int, folder: Path) -> dict[str, str]:
    """Checksums of files that are gone, as recorded by the run that began with them."""
    gone = {
        field
        for field in ORIGINS
        if origin(experiment, field)[0] == "file"
        and not Path(origin(experiment, field)[1]).is_file()
    }
    runs = _readable(sorted(folder.glob(f"seed{seed}-*"))) if gone else ()
    known = {
        run.id: {field: run.files[field] for field in gone}
        for run in runs
        if gone <= run.files.keys()
        and identity_fields(run.experiment) == identity_fields(experiment)
    }
    return next(iter(known.values())) if len(known) == 1 else {}


def _readable(directories: Iterable[Path]) -> Iterator[Run]:
    for directory in directories:
        with suppress(ResultError):
            yield Run.load(directory)


def _require_same_kind_of_data(experiment: Experiment, teacher: Experiment) -> None:
    for key in ("num_classes", "in_channels"):
        own, theirs = getattr(experiment.data, key), getattr(teacher.data, key)
        if own != theirs:
            raise SpecError(
                f"{teacher.name} has data.{key} = {theirs}, and cannot teach where it is {own}",
                where=f"{experiment.name}: recipe.teacher",
            )


def with_dependencies(run: Run) -> Iterator[Run]:
    """The run after those that must be done before it."""
    for needed in run.dependencies:
        yield from with_dependencies(needed)
    yield run
