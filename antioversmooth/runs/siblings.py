"""Siblings of a run: runs of the same row and seed before its spec or overrides were changed."""

from __future__ import annotations

import re
from pathlib import Path

from antioversmooth.constraints import NAME
from antioversmooth.errors import ResultError
from antioversmooth.runs.directory import Run
from antioversmooth.runs.identity import flatten, identity_fields, to_json

HEAD = 4096
"""Characters of `spec.yaml` in which the name of the row is."""
NAMED = 3
"""Differences that are named; the rest are counted."""


class RowFolders:
    """The directories in the folders of rows, for one question about many runs: each folder is
    listed once."""

    def __init__(self) -> None:
        self._listed: dict[Path, dict[str, list[Path]]] = {}
        self._ran: dict[tuple[Path, int], dict[str, list[str]]] = {}

    def of_seed(self, folder: Path, seed: int) -> list[Path]:
        """The directories of a seed in the folder of a row, ordered by name."""
        if folder not in self._listed:
            found: dict[str, list[Path]] = {}
            for path in sorted(folder.glob("seed*-*")):
                found.setdefault(path.name.partition("-")[0], []).append(path)
            self._listed[folder] = found
        return self._listed[folder].get(f"seed{seed}", [])

    def that_ran(self, folder: Path, seed: int) -> dict[str, list[str]]:
        """Names of the directories of a seed that ever ran, by the name of their row."""
        if (folder, seed) not in self._ran:
            found: dict[str, list[str]] = {}
            for path in filter(_ever_ran, self.of_seed(folder, seed)):
                found.setdefault(_row_name(path), []).append(path.name)
            self._ran[folder, seed] = found
        return self._ran[folder, seed]


def sibling_runs(run: Run, folders: RowFolders) -> list[str]:
    """Names of the directories of siblings that ever ran.

    Other rows of the same spec, as in a sweep, are none.
    """
    folder = run.dir.parent
    if all(path == run.dir for path in folders.of_seed(folder, run.seed)):
        return []
    found = folders.that_ran(folder, run.seed).get(run.experiment.row_name, [])
    return [name for name in found if name != run.dir.name]


def _row_name(directory: Path) -> str:
    """The name of the row that the run of a directory was launched as; its spec is not checked."""
    try:
        with (directory / "spec.yaml").open(errors="replace") as file:
            head = file.read(HEAD)
    except OSError:
        return directory.parent.name
    found = re.search(rf"^  row: '?({NAME})'?$", head, re.MULTILINE)
    return found[1] if found else directory.parent.name


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
    parts = (identity_fields(experiment, names_of_today=True) for experiment in both)
    science = set().union(*map(flatten, parts))
    then, now = (flatten(to_json(experiment)) for experiment in both)
    changed = [key for key in then if key in science and then[key] != now[key]]
    differences = [f"{key}={then[key]} (now {now[key]})" for key in changed[:NAMED]]
    more = [f"{len(changed) - NAMED} more"] if len(changed) > NAMED else []
    return (
        f"{before.name} ran, with {', '.join([*differences, *more]) or 'weights of another start'};"
        f" {advice}"
    )
