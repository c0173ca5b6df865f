"""Imports the runs of a bundle from somebody else, without executing or overwriting anything.

A bundle may only contain files with known names (`content.NAMES`), so paths to other folders, links
and devices are refused. The checksum of every file and the identity of every run are verified
before any run is added to the results.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from antioversmooth import files, runs
from antioversmooth.constraints import NAME, PROFILE
from antioversmooth.errors import ResultError, UserError
from antioversmooth.reporting.sharing.checks import Verdict
from antioversmooth.reporting.sharing.content import FORMAT, MANIFEST, NAMES, run_path
from antioversmooth.reporting.sharing.records import Snapshots, compare_records
from antioversmooth.reporting.sharing.run_checks import result_checks
from antioversmooth.reporting.table.observe import observe
from antioversmooth.runs import Run
from antioversmooth.runs.directory import IMPORTED
from antioversmooth.runs.status import RunState

PATH = re.compile(rf"{NAME}/seed\d{{1,9}}-[0-9a-f]{{8}}", re.ASCII)
MAX_MANIFEST = 64 * 2**20
MAX_RECORD = 2**30
"""Bytes of a file other than weights: journals are read whole."""
CHUNK = 2**20
ANALYSES = {".json", ".png"}
"""Endings of the files of an analysis that are imported: programs that open them execute nothing.
Pages and SVG can hold scripts, CSV can hold formulas."""


@dataclass(frozen=True)
class Imported:
    """An imported run."""

    run: Run
    """In its new directory."""
    is_new: bool
    """Whether it was not among the results before."""
    left_out: tuple[str, ...] = ()
    """Files of the bundle that were not imported, by their names in the run directory."""


@dataclass(frozen=True)
class Entry:
    """A run in the manifest."""

    path: str
    """Its directory, relative to `runs/`."""
    id: str
    profile: str
    files: dict[str, tuple[str, int]]
    """sha256 and bytes of each."""

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names of its files that are not imported."""
        return tuple(filter(_is_left_out, self.files))


def _is_left_out(name: str) -> bool:
    """Whether it is a file of an analysis that something could execute."""
    return name.startswith("analysis/") and Path(name).suffix not in ANALYSES


def require_bundle(path: Path) -> None:
    """Raises UserError where there is no such file, or it is not a bundle; writes nothing."""
    with _reading(path), tarfile.open(path, "r:") as tar:
        _manifest(path, tar)


def import_bundle(path: Path, results: Path) -> list[Imported]:
    """Adds the runs of a bundle to the results folder: all of them, or none.

    Args:
        results: The project's results folder; runs go to the folder of their profile in it.

    Raises:
        UserError: It is not a bundle, is damaged, contains a file that is not allowed, or another
            run is in the directory of one of its runs.
        OSError: No space, no permission; nothing was imported.
    """
    with _reading(path), tarfile.open(path, "r:") as tar:
        entries = _manifest(path, tar)
        base = runs.profile_folder(results, entries[0].profile)
        base.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=base, prefix=".import-", suffix=".tmp") as temporary:
            scratch = Path(temporary)
            _extract(path, tar, entries, scratch)
            _check(path, entries, scratch)
            return _move(path, entries, scratch, base)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns the errors of a damaged archive into one message."""
    try:
        yield
    except FileNotFoundError as err:
        raise UserError(f"there is no {err.filename}") from err
    except IsADirectoryError as err:
        raise UserError(
            f"{path} is a folder; a bundle is the file that `antioversmooth export` writes"
        ) from err
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as err:
        raise UserError(f"{path} is not a bundle of runs, or is damaged: {err}") from err


# -- manifest --------------------------------------------------------------------------------------


def _manifest(path: Path, tar: tarfile.TarFile) -> list[Entry]:
    first = tar.next()
    named = first is not None and first.name == MANIFEST
    if first is None or not named or not _is_plain(first) or first.size > MAX_MANIFEST:
        raise UserError(f"{path} is not a bundle of runs: it does not begin with {MANIFEST}")
    try:
        value = json.loads(_member(tar, first).read())
        if value["format"] != FORMAT:
            raise UserError(f"{path} has format {value['format']}, this code reads {FORMAT}")
        return read_entries(value["runs"])
    except (KeyError, TypeError, AttributeError, RecursionError) as err:
        raise UserError(
            f"{path}: {MANIFEST} is not what `antioversmooth export` writes ({err})"
        ) from err


def read_entries(listed: Sequence[dict[str, Any]]) -> list[Entry]:
    """The runs of the manifest.

    Raises:
        ValueError: A name, a size or a checksum is invalid, or they cannot be in one folder.
    """
    entries = [_read_entry(run) for run in listed]
    paths, profiles = {entry.path for entry in entries}, {entry.profile for entry in entries}
    if len(paths) < len(entries) or len(profiles) != 1:
        raise ValueError("a bundle holds at least one run, each once, all of one profile")
    return entries


def _read_entry(run: dict[str, Any]) -> Entry:
    """One run of the manifest.

    Raises:
        ValueError: A name, a size or a checksum is invalid.
    """
    path, profile = str(run["place"]), str(run["profile"])
    if not PATH.fullmatch(path) or not re.fullmatch(PROFILE, profile):
        raise ValueError(f"invalid path {path[:80]!r} or profile {profile[:80]!r} of a run")
    entry = Entry(path, str(run["id"]), profile, {})
    for name, listed in run["files"].items():
        if not NAMES.fullmatch(name):
            raise ValueError(f"{name[:80]!r} is not a file of a run")
        checksum, size = str(listed["sha256"]), listed["bytes"]
        limit = float("inf") if name.endswith(".pt") else MAX_RECORD
        allowed = type(size) is int and 0 <= size <= limit
        if not allowed or not re.fullmatch("[0-9a-f]{64}", checksum):
            raise ValueError(f"{name}: invalid sha256 {checksum[:80]!r} or size {size!r}")
        entry.files[name] = checksum, size
    return entry


# -- content ---------------------------------------------------------------------------------------


def _extract(path: Path, tar: tarfile.TarFile, entries: list[Entry], scratch: Path) -> None:
    """Extracts the files of the manifest, each once, and no others."""
    expected = {
        f"runs/{entry.path}/{name}": listed
        for entry in entries
        for name, listed in entry.files.items()
    }
    needed = sum(size for _, size in expected.values())
    if needed > shutil.disk_usage(scratch).free:
        raise UserError(
            f"{path} holds {needed / 2**20:,.0f} MiB, and there is less than that free in"
            f" {scratch.parent}"
        )
    while (member := tar.next()) is not None:
        checksum, size = expected.pop(member.name, ("", -1))
        if not _is_plain(member) or member.size != size:
            raise UserError(f"{path}: {member.name[:80]!r} is not as {MANIFEST} lists it")
        target = scratch / member.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if _copy(_member(tar, member), target) != checksum:
            raise UserError(
                f"{path}: {member.name} is damaged: its checksum differs from {MANIFEST}"
            )
    if expected:
        raise UserError(f"{path} is cut off: it lacks {next(iter(expected))}")


def _is_plain(member: tarfile.TarInfo) -> bool:
    """Whether it is a regular file: no link, no device, and not sparse, which a few bytes could
    make huge."""
    return member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()


def _member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(member)
    # Not None for a regular file.
    assert file is not None
    return file


def _copy(source: IO[bytes], target: Path) -> str:
    """Copies a file; returns its sha256."""
    digest = hashlib.sha256()
    with files.naming(target), target.open("xb") as file:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def _check(path: Path, entries: list[Entry], scratch: Path) -> None:
    """Verifies the identity of each run, and its weights and journal against its result."""
    for entry in entries:
        directory = scratch / "runs" / entry.path
        problem = next(problems(entry, directory, Snapshots()), None) or _lacking(directory)
        if problem:
            said = str(problem).replace(f"{scratch}/", "")
            raise UserError(f"{path}: {entry.path}: {said}")


def _lacking(directory: Path) -> str:
    """Which run the bundle lacks; empty where none is missing."""
    folder = directory.parents[1].absolute()
    for needed in Run.load(directory).dependencies:
        if not needed.dir.absolute().is_relative_to(folder):
            return f"the bundle lacks {needed.name}, which it needs"
    return ""


def problems(entry: Entry, directory: Path, snapshots: Snapshots) -> Iterator[object]:
    """Why a run is not what the manifest and its own files say."""
    try:
        run = Run.load(directory)
    except ResultError as err:
        yield err
        return
    path, profile = run_path(run), run.experiment.profile
    if (run.id, path, profile) != (entry.id, entry.path, entry.profile):
        yield f"its spec.yaml belongs to {path} in profile {profile}"
    seen = observe(run)
    if seen.state is not RunState.done or seen.result is None:
        yield f"has no result ({seen.problem or seen.state.value})"
        return
    facts = compare_records(seen, snapshots)
    for check in result_checks(f"seed {run.seed}", seen, facts):
        if check.verdict is Verdict.differs:
            yield check
    final = seen.result["checkpoint"] or {}
    name = f"checkpoints/{final.get('file')}"
    for listed, (checksum, _) in entry.files.items():
        if listed.startswith("checkpoints/") and listed not in (name, f"{name}.sha256"):
            yield f"result.json does not name {listed}"
        if listed == name and checksum != final.get("sha256"):
            yield f"{listed} is not the checkpoint that result.json names"


# -- moving ----------------------------------------------------------------------------------------


def _move(path: Path, entries: list[Entry], scratch: Path, base: Path) -> list[Imported]:
    """Moves each run into the results; a run that is there already is left alone."""
    news = {entry.path: _is_new(path, entry, base / "runs" / entry.path) for entry in entries}
    origin = {"bundle": path.name, "sha256": files.sha256(path), "time": round(time.time(), 3)}
    for entry in entries:
        if news[entry.path]:
            sums = {name: checksum for name, (checksum, _) in _imported_files(entry)}
            for name in entry.left_out:
                (scratch / "runs" / entry.path / name).unlink()
            files.write_json(scratch / "runs" / entry.path / IMPORTED, {**origin, "files": sums})
    for entry in entries:
        target = base / "runs" / entry.path
        if news[entry.path]:
            target.parent.mkdir(parents=True, exist_ok=True)
            (scratch / "runs" / entry.path).rename(target)
    return [
        Imported(Run.load(base / "runs" / entry.path), news[entry.path], entry.left_out)
        for entry in entries
    ]


def _imported_files(entry: Entry) -> list[tuple[str, tuple[str, int]]]:
    return [item for item in entry.files.items() if not _is_left_out(item[0])]


def _is_new(path: Path, entry: Entry, target: Path) -> bool:
    """Whether the run is not among the results yet.

    Raises:
        UserError: Its directory is there, with other files.
    """
    if not os.path.lexists(target):
        return True
    for name, (checksum, _) in _imported_files(entry):
        existing = target / name
        if not existing.is_file() or files.sha256(existing) != checksum:
            raise UserError(f"{path}: {target} exists with another {name}; nothing was imported")
    return False
