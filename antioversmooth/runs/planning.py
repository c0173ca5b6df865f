"""From experiments and seeds to runs, those that others need first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import suppress
from pathlib import Path

from antioversmooth import weight_files
from antioversmooth.config import Experiment
from antioversmooth.errors import ResultError, SpecError
from antioversmooth.runs.directory import Run, dir_name
from antioversmooth.runs.identity import (
    ORIGINS,
    checksum,
    file_checksums,
    identity,
    identity_fields,
    origin,
    weight_ids,
)
from antioversmooth.runs.siblings import RowFolders


def profile_folder(results: Path, profile: str) -> Path:
    """The folder of a profile's runs and tables; only the paper's profile has no subfolder."""
    return results if profile == "imagenet" else results / profile


Upstream = Callable[[str], Experiment]
"""Finds the experiment that `init_from: run:<name>` or `teacher: run:<name>` names."""
Chain = tuple[str, ...]


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
    experiment: Experiment, seeds: list[int], results: Path, upstream: Upstream, chain: Chain
) -> list[Run]:
    """A run for each seed; `chain` names the experiments that need this one."""
    before: dict[str, list[Run]] = {}
    for field, role in ORIGINS.items():
        kind, name = origin(experiment, field)
        if kind != "run":
            continue
        if name in (*chain, experiment.name):
            raise SpecError(f"{name} depends on itself", where=f"{experiment.name}: recipe.{field}")
        chain_below = (*chain, experiment.name)
        before[role] = _plan_seeds(upstream(name), seeds, results, upstream, chain_below)
    for field, role in ORIGINS.items():
        # what is trained further gets a new classifier
        if role == "teacher" or experiment.recipe.epochs == 0:
            for other in before.get(role, [])[:1]:
                _require_same_kind_of_data(experiment, other.experiment, field)
    folder, folders = results / "runs" / experiment.name, RowFolders()
    science, present = identity_fields(experiment), _present(experiment)
    gone = {field for field in ORIGINS if origin(experiment, field)[0] == "file"} - present.keys()
    planned = []
    for number, seed in enumerate(seeds):
        own = {role: runs[number] for role, runs in before.items()}
        of_seed = folders.of_seed(folder, seed) if gone else ()
        recorded = present | _recorded(experiment, of_seed, gone)
        weights = weight_ids(experiment, own, recorded)
        run_id = identity(science, seed, weights)
        directory = folder / dir_name(seed, run_id)
        checksums = file_checksums(weights)
        others = own.get("upstream"), own.get("teacher")
        planned.append(Run(experiment, seed, run_id, directory, *others, checksums))
    return planned


def _present(experiment: Experiment) -> dict[str, str]:
    """Checksums of the files of weights that are there: the same for all seeds, read once."""
    return {
        field: checksum(experiment, field)
        for field in ORIGINS
        for kind, name in [origin(experiment, field)]
        if kind == "file" and weight_files.is_complete(Path(name))
    }


def _recorded(
    experiment: Experiment, directories: Iterable[Path], gone: Set[str]
) -> dict[str, str]:
    """Checksums of files that are gone, as recorded by the run that began with them.

    Args:
        directories: Those of the row and seed.
        gone: The fields that name the files.
    """
    known = {
        run.id: {field: run.files[field] for field in gone}
        for run in _readable(directories)
        if gone <= run.files.keys()
        and identity_fields(run.experiment) == identity_fields(experiment)
    }
    return next(iter(known.values())) if len(known) == 1 else {}


def _readable(directories: Iterable[Path]) -> Iterator[Run]:
    for directory in directories:
        with suppress(ResultError):
            yield Run.load(directory)


def _require_same_kind_of_data(experiment: Experiment, other: Experiment, field: str) -> None:
    use = "teach" if field == "teacher" else "be evaluated"
    for key in ("num_classes", "in_channels"):
        own, theirs = getattr(experiment.data, key), getattr(other.data, key)
        if own != theirs:
            raise SpecError(
                f"{other.name} has data.{key} = {theirs}, and cannot {use} where it is {own}",
                where=f"{experiment.name}: recipe.{field}",
            )


def with_dependencies(run: Run) -> Iterator[Run]:
    """The run after those that must be done before it."""
    for needed in run.dependencies:
        yield from with_dependencies(needed)
    yield run
