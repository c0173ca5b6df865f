"""A copy of the code as it is now, uncommitted work included, from which the runs of this launch
start.

What runs is what was launched, whatever is edited while a job waits. A snapshot is named by its
content, so runs that were launched from the same code share one, and a table can say whether its
rows ran the same code.

results/snapshots/<id>/
  antioversmooth/, launch.py   the files, read-only
  snapshot.json                id, and the commit at which this content was first launched
  uncommitted.diff             how the content differed from that commit
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from antioversmooth import files

PROJECT = Path(__file__).resolve().parents[2]
CODE = ("antioversmooth", "launch.py")


@dataclass(frozen=True)
class Snapshot:
    """Code that runs can start from."""

    id: str
    """First 12 hex digits of the sha256 over names and contents of the files."""
    path: Path
    """Folder to put on the import path."""
    commit: str | None
    """Commit that is checked out now; None outside of git."""
    dirty: bool
    """Whether the code differs from that commit."""


def take(results: Path, project: Path = PROJECT) -> Snapshot:
    """The snapshot of the project's code under `results/snapshots/`; made where it is not there
    yet."""
    folder = results / "snapshots"
    copy = folder / f".{os.getpid()}.tmp"
    try:
        for source in _sources(project):
            (copy / source).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(project / source, copy / source)
        # of the copy: the original may be edited meanwhile
        snapshot = _described(copy, results, project)
        _annotate(snapshot, copy, _git(project, "diff", "HEAD", "--", *CODE) or "")
        _publish(copy, snapshot.path)
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    return snapshot


def describe(results: Path, project: Path = PROJECT) -> Snapshot:
    """What `take` would return, without writing anything."""
    return _described(project, results, project)


def _described(code: Path, results: Path, project: Path) -> Snapshot:
    digest = _digest(code)
    dirty = bool(_git(project, "status", "--porcelain", "--", *CODE))
    return Snapshot(
        digest, results / "snapshots" / digest, _git(project, "rev-parse", "HEAD"), dirty
    )


def _sources(project: Path) -> list[Path]:
    """The code's files relative to the project, in an order that does not depend on the file
    system."""
    package, program = (project / name for name in CODE)
    found = [
        p
        for p in package.rglob("*")
        if p.is_file() and "__pycache__" not in p.parts and p.suffix != ".pyc"
    ]
    return sorted(
        p.relative_to(project) for p in [*found, *([program] if program.is_file() else [])]
    )


def _digest(folder: Path) -> str:
    lines = [
        f"{files.sha256(folder / source)}  {source.as_posix()}\n" for source in _sources(folder)
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:12]


def _annotate(snapshot: Snapshot, copy: Path, diff: str) -> None:
    """Writes what git says beside the code, and makes the files read-only."""
    files.write_json(copy / "snapshot.json", {"id": snapshot.id, "commit": snapshot.commit})
    files.write_atomic(copy / "uncommitted.diff", diff)
    for path in copy.rglob("*"):
        # folders stay writable, so that `rm -r results` needs no tricks
        if path.is_file():
            path.chmod(0o444)


def _publish(copy: Path, path: Path) -> None:
    """Renames the copy to its name: of several launchers at once one wins, and nobody sees a
    part."""
    try:
        copy.rename(path)
    except OSError:
        # where it is, the same content was there before
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
