"""A copy of the code as it is now, uncommitted work included, which the runs of a launch import.

What runs is what was launched, whatever is edited while a job waits. A snapshot is named by its
content, so runs that were launched from the same code share one, and a table can say whether its
rows ran the same code. Code that no job can import (the command line, tables, figures) is neither
copied nor part of the name.

results/snapshots/<id>/
  antioversmooth/     the modules that jobs can import, read-only
  snapshot.json       id, and the commit at which this content was first launched
  uncommitted.diff    how the content differed from that commit
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from antioversmooth import files
from antioversmooth.runs.code import code_id, source_files

PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Snapshot:
    """Code that runs can start from."""

    id: str
    """See `code_id`."""
    path: Path
    """Folder to put on the import path."""
    commit: str | None
    """Commit that is checked out now; None outside of git."""
    dirty: bool
    """Whether the code differs from that commit."""


def take(results: Path, project: Path = PROJECT) -> Snapshot:
    """Returns the snapshot of the project's code under `results/snapshots/`, made if needed."""
    folder = results / "snapshots"
    copy = folder / f".{os.getpid()}.tmp"
    sources = source_files(project)
    try:
        for source in sources:
            (copy / source).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(project / source, copy / source)
        # described from the copy: the original may be edited at the same time
        snapshot = _describe(copy, sources, results, project)
        _annotate(snapshot, copy, _git(project, "diff", "HEAD", "--", *map(str, sources)) or "")
        _publish(copy, snapshot.path)
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    return snapshot


def describe(results: Path, project: Path = PROJECT) -> Snapshot:
    """Returns the same as `take`, and writes nothing."""
    return _describe(project, source_files(project), results, project)


def _describe(code: Path, sources: Sequence[Path], results: Path, project: Path) -> Snapshot:
    digest = code_id(code, sources)
    dirty = bool(_git(project, "status", "--porcelain", "--", *map(str, sources)))
    commit = _git(project, "rev-parse", "HEAD")
    return Snapshot(digest, results / "snapshots" / digest, commit, dirty)


def _annotate(snapshot: Snapshot, copy: Path, diff: str) -> None:
    """Writes what git says beside the code, and makes the files read-only."""
    files.write_json(copy / "snapshot.json", {"id": snapshot.id, "commit": snapshot.commit})
    files.write_atomic(copy / "uncommitted.diff", diff)
    for path in copy.rglob("*"):
        # folders stay writable, so that `rm -r results` needs no tricks
        if path.is_file():
            path.chmod(0o444)


def _publish(copy: Path, path: Path) -> None:
    """Renames the copy to its name: one of several launchers wins, and nobody sees a part."""
    try:
        copy.rename(path)
    except OSError:
        # an existing folder has the same content
        if not path.is_dir():
            raise


def _git(project: Path, *arguments: str) -> str | None:
    """Output of a git command; None where there is no git, no repository or no commit."""
    try:
        answer = subprocess.run(
            ["git", *arguments], cwd=project, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()
