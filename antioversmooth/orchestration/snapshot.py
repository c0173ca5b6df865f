"""A copy of the code as it is now, uncommitted work included, which the runs of a launch import.
The code of a checkout and an installed package are copied alike.

What runs is what was launched, whatever is edited while a job waits. A snapshot is named by its
content, so runs that were launched from the same code share one, and a table can say whether its
rows ran the same code. Code that no job can import (the command line, tables, figures) is neither
copied nor part of the name. A snapshot that exists is compared with its name before it is used.

results/snapshots/<id>/
  antioversmooth/     the modules that jobs can import, read-only
  snapshot.json       id, and the commit at which this content was first launched
  uncommitted.diff    how the content differed from that commit, without secrets
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from antioversmooth import files
from antioversmooth.errors import LaunchError, and_more
from antioversmooth.installation import built, files_in_git, git
from antioversmooth.redact import redact
from antioversmooth.runs.code import (
    NO_BYTE_CODE,
    SNAPSHOT,
    UNCOMMITTED,
    checksums,
    code_id,
    snapshot_checksums,
    source_files,
)
from antioversmooth.text import counted

PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Snapshot:
    """Code that runs can start from."""

    id: str
    """See `code_id`."""
    path: Path
    """Folder to put on the import path."""
    commit: str | None
    """Commit that is checked out now, or that the installed package was built from; None where
    neither is known."""
    dirty: bool
    """Whether the code differs from that commit."""


def take(results: Path, project: Path = PROJECT) -> Snapshot:
    """Returns the snapshot of the project's code under `results/snapshots/`, made if needed.

    Raises:
        LaunchError: The snapshot is there and was altered, or a module is not the project's own.
    """
    folder = results / "snapshots"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".", suffix=".tmp") as temporary:
        # unlike the temporary folder, it has the modes that the user's umask gives
        copy = Path(temporary, "code")
        known = files_in_git(project)
        sources = _own_files(project, known)
        for source in sources:
            (copy / source).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(project / source, copy / source)
        # described from the copy: the original may be edited at the same time
        expected = checksums(copy, sources)
        snapshot = _describe(expected, results, project, known)
        plain = ("--no-color", "--no-ext-diff", "--no-textconv")
        diff = known and git(project, "diff", *plain, "HEAD", "--", *map(str, sources))
        _annotate(snapshot, copy, redact(diff or ""))
        _publish(copy, snapshot.path)
    _require_unaltered(snapshot, expected)
    return snapshot


def describe(results: Path, project: Path = PROJECT) -> Snapshot:
    """Returns the same as `take`, and writes nothing."""
    known = files_in_git(project)
    expected = checksums(project, _own_files(project, known))
    snapshot = _describe(expected, results, project, known)
    if snapshot.path.exists():
        _require_unaltered(snapshot, expected)
    return snapshot


def older_code(live: Iterable[str], snapshot: Snapshot) -> str:
    """A line about runs whose jobs have another code than a launch would give them now; empty
    where there is none.

    Args:
        live: Ids of the snapshots that runs were launched with which wait or run, one each; empty
            where it is not recorded.
    """
    others = [code for code in live if code not in ("", snapshot.id)]
    if not others:
        return ""
    verbs = "waits or runs has" if len(others) == 1 else "wait or run have"
    return (
        f"{counted(len(others), 'run')} that {verbs} the code"
        f" {and_more(sorted(set(others)), 3)}, the code is now {snapshot.id}; `cancel` and"
        " launch again to run the new code"
    )


def _describe(
    expected: Mapping[str, str], results: Path, project: Path, known: Set[Path] | None
) -> Snapshot:
    digest = code_id(expected)
    dirty, commit = False, None
    if record := built(project / "antioversmooth"):
        dirty, commit = record.dirty or digest != record.code, record.commit
    elif known is not None:
        dirty = bool(git(project, "status", "--porcelain", "--", *expected))
        commit = git(project, "rev-parse", "HEAD")
    return Snapshot(digest, results / "snapshots" / digest, commit, dirty)


def _own_files(project: Path, known: Set[Path] | None) -> list[Path]:
    """The modules that jobs can import.

    Args:
        known: See `files_in_git`.

    Raises:
        LaunchError: The content of one comes from outside of the project, or git ignores it: it
            may be private, and a snapshot is shared with the results.
    """
    sources, root = source_files(project), project.resolve()
    for source in sources:
        content = (project / source).resolve()
        if not content.is_relative_to(root) or content.suffix != ".py":
            problem = f"it is a link to {content}"
        elif known is not None and content.relative_to(root) not in known:
            problem = "git ignores it, or a link leads to it"
        else:
            continue
        raise LaunchError(
            f"{project / source}: jobs import this module, and a snapshot cannot copy it:"
            f" {problem}; make it a file of the project that git does not ignore"
        )
    return sources


def _annotate(snapshot: Snapshot, copy: Path, diff: str) -> None:
    """Writes what git says beside the code, keeps byte code out, and makes files read-only."""
    files.write_json(copy / SNAPSHOT, {"id": snapshot.id, "commit": snapshot.commit})
    files.write_atomic(copy / UNCOMMITTED, diff)
    for folder in {path.parent for path in copy.rglob("*.py")}:
        (folder / NO_BYTE_CODE).touch()
    for path in copy.rglob("*"):
        # folders stay writable, so that `rm -r results` needs no tricks
        if path.is_file():
            path.chmod(path.stat().st_mode & 0o444)


def _publish(copy: Path, path: Path) -> None:
    """Renames the copy to its name: one of several launchers wins, and nobody sees a part."""
    try:
        copy.rename(path)
    except OSError:
        # it is compared instead
        if not path.is_dir():
            raise


def _require_unaltered(snapshot: Snapshot, expected: Mapping[str, str]) -> None:
    """Compares all files of a snapshot with those that were copied to it, or would be."""
    found = {} if snapshot.path.is_symlink() else snapshot_checksums(snapshot.path)
    if found == expected:
        return
    names = sorted({name for name, _ in found.items() ^ expected.items()})
    raise LaunchError(
        f"{snapshot.path} is not the code that its name stands for. Edited, added or removed since"
        f" it was copied: {and_more(names, 3)}. Move the folder away when no job runs from it, and"
        " launch again: this copies the code again"
    )
