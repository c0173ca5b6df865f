"""Siblings of a run: runs of the same row and seed before its spec or overrides were changed."""

from __future__ import annotations

from pathlib import Path

from antioversmooth.errors import ResultError
from antioversmooth.runs.directory import Run
from antioversmooth.runs.identity import flatten, identity_fields, to_json

NAMED = 3
"""Differences that are named; the rest are counted."""


class RowFolders:
    """The directories in the folders of rows, for one question about many runs: each folder is
    listed once."""

    def __init__(self) -> None:
        self._listed: dict[Path, dict[str, list[Path]]] = {}

    def of_seed(self, folder: Path, seed: int) -> list[Path]:
        """The directories of a seed in the folder of a row, ordered by name."""
        if folder not in self._listed:
            found: dict[str, list[Path]] = {}
            for path in sorted(folder.glob("seed*-*")):
                found.setdefault(path.name.partition("-")[0], []).append(path)
            self._listed[folder] = found
        return self._listed[folder].get(f"seed{seed}", [])


def sibling_runs(run: Run, folders: RowFolders) -> list[str]:
    """Names of the directories of siblings that ever ran."""
    found = folders.of_seed(run.dir.parent, run.seed)
    return [path.name for path in found if path != run.dir and _ever_ran(path)]


def _ever_ran(directory: Path) -> bool:
    return (directory / "attempts.jsonl").exists() or (directory / "result.json").exists()


def explain_identity_change(run: Run, folders: RowFolders | None = None) -> str:
    """The newest sibling of a run that never began, and how it differs; empty without one.

    The differences are the overrides that find the sibling: with a field that was added since it
    ran, its `identity_default`.
    """
    directories = [run.dir.parent / name for name in sibling_runs(run, folders or RowFolders())]
    if not directories:
        return ""
    before = max(directories, key=lambda path: path.stat().st_mtime)
    advice = "launch it as it is now, or give the overrides of then"
    try:
        both = [Run.load(before).experiment, run.experiment]
    except ResultError:
        return f"{before.name} ran, which was another; {advice}"
    # a field that is not part of one identity has a value there too
    science = set().union(*(flatten(identity_fields(experiment)) for experiment in both))
    then, now = (flatten(to_json(experiment)) for experiment in both)
    changed = [key for key in then if key in science and then[key] != now[key]]
    differences = [f"{key}={then[key]} (now {now[key]})" for key in changed[:NAMED]]
    more = [f"{len(changed) - NAMED} more"] if len(changed) > NAMED else []
    return (
        f"{before.name} ran, with {', '.join([*differences, *more]) or 'weights of another start'};"
        f" {advice}"
    )
