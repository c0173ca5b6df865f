"""Exports runs as one file that another group can check.

A plain tar, with the same bytes for the same runs:

    manifest.json                             format; id of each run; sha256 and size of each file
    runs/<experiment>/seed<k>-<id8>/<file>    spec, intent, attempts, classes, journal, provenance,
                                              result, weights, analysis

The runs that a run starts or learns from are included, since its identity depends on them. Logs are
not included.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from antioversmooth import files
from antioversmooth.errors import UserError
from antioversmooth.redact import redact
from antioversmooth.reporting.sharing import unbundle
from antioversmooth.reporting.sharing.content import (
    FORMAT,
    MANIFEST,
    NAMES,
    NEEDED,
    RECORD,
    TEXTS,
    run_path,
)
from antioversmooth.reporting.sharing.records import Snapshots
from antioversmooth.runs import Run, with_dependencies
from antioversmooth.runs.directory import ENTRIES


@dataclass(frozen=True)
class Part:
    """A file of a run, as it goes into a bundle."""

    name: str
    """In the run directory: checkpoints/step00000500-attempt1.pt."""
    path: Path
    text: bytes | None
    """The content without secrets, if the file has any; None: as in the file."""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.path.stat().st_size if self.text is None else len(self.text)

    @cached_property
    def checksum(self) -> str:
        """sha256 in hex."""
        if self.text is None:
            return files.sha256(self.path)
        return hashlib.sha256(self.text).hexdigest()


@dataclass(frozen=True)
class Exported:
    """The content of a bundle that was written."""

    runs: list[Run]
    passed_over: list[str]
    """Files in the directories of the runs that are not in it, with the reason."""


def export(runs: Sequence[Run], target: Path, *, checkpoints: bool = True) -> Exported:
    """Writes a bundle, whole or not at all.

    Only files of a run go into it, and no content from outside of the run's directory: somebody who
    sent the directory may have put links to private files there.

    Args:
        checkpoints: Whether to include the final weights of each run.

    Raises:
        UserError: A run is not done, a file that its result needs is missing or is a link out of
            its directory, or its files contradict each other, so that no import would accept it.
        ResultError: The result of a run is invalid.
    """
    chosen = list({run.id: run for wanted in runs for run in with_dependencies(wanted)}.values())
    contents = [(run, list(_parts(run, checkpoints))) for run in chosen]
    entries = [_entry(run, parts) for run, parts in contents]
    _require_acceptable(chosen, entries)
    manifest = {"format": FORMAT, "runs": entries}
    with (
        files.replacing(target) as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        _add(tar, MANIFEST, f"{files.to_json(manifest)}\n".encode())
        for run, parts in contents:
            for part in parts:
                content = part.path if part.text is None else part.text
                _add(tar, f"runs/{run_path(run)}/{part.name}", content)
    return Exported(chosen, [line for run in chosen for line in _passed_over(run)])


def _require_acceptable(chosen: Sequence[Run], entries: Sequence[dict[str, Any]]) -> None:
    """Makes the checks of an import; raises UserError where it would refuse the bundle."""
    try:
        read = unbundle.read_entries(entries)
    except ValueError as err:
        raise UserError(f"{err}; name other runs") from err
    snapshots = Snapshots()
    for run, entry in zip(chosen, read, strict=True):
        if problem := next(unbundle.problems(entry, run.dir, snapshots), None):
            raise UserError(
                f"{run.name}: {problem}: {run.dir}; a run whose files contradict each other is not"
                " exported: put the file back as it was written, or move the directory away and"
                " launch the run again"
            )


def _passed_over(run: Run) -> Iterator[str]:
    """Files of a run that no bundle holds, except those that every run has."""
    for path in sorted(run.dir.glob("*")) + sorted(run.dir.glob("analysis/*")):
        name = str(path.relative_to(run.dir))
        if not (name in ENTRIES or NAMES.fullmatch(name)):
            yield f"{run.name}: {name} (no file of a run)"
        elif NAMES.fullmatch(name) and not run.owns(path):
            yield f"{run.name}: {name} ({_kind(path)})"


def _kind(path: Path) -> str:
    return "a link out of the run" if path.is_file() else "no file"


def _parts(run: Run, checkpoints: bool) -> Iterator[Part]:
    """The files of a run, in a fixed order."""
    result = run.result()
    if result is None:
        far = f"it is at step {run.last_step()} of {run.experiment.total_steps}"
        raise UserError(
            f"{run.name} is not done ({far}), and a bundle contains results only; launch it again,"
            f" or leave out unfinished runs with --allow-partial: {run.dir}"
        )
    paths = [run.dir / name for name in RECORD]
    if foreign := [p for p in paths if p.name in NEEDED and p.is_file() and not run.owns(p)]:
        raise UserError(
            f"{run.name}: {foreign[0]} is a link out of the run, which a bundle does not follow;"
            " put the file itself there"
        )
    final = (result.get("checkpoint") or {}).get("file")
    if checkpoints and final:
        weights = run.checkpoints_dir / Path(str(final)).name
        if not run.owns(weights):
            problem = "a link out of the run" if weights.is_file() else "missing"
            raise UserError(
                f"{run.name}: {weights} is {problem}; --without-checkpoints leaves weights out"
            )
        paths += [weights, weights.with_name(f"{weights.name}.sha256")]
    analyses = sorted(run.dir.glob("analysis/*"))
    paths += [path for path in analyses if NAMES.fullmatch(f"analysis/{path.name}")]
    for path in filter(run.owns, paths):
        name = str(path.relative_to(run.dir))
        yield Part(name, path, _without_secrets(path) if name in TEXTS else None)


def _without_secrets(path: Path) -> bytes | None:
    """The content without secrets, which older runs may still contain; None if there are none."""
    text = path.read_bytes().decode(errors="surrogateescape")
    redacted = redact(text)
    return None if redacted == text else redacted.encode(errors="surrogateescape")


def _entry(run: Run, parts: Sequence[Part]) -> dict[str, Any]:
    return {
        "place": run_path(run),
        "id": run.id,
        "profile": run.experiment.profile,
        "files": {part.name: {"sha256": part.checksum, "bytes": part.size} for part in parts},
    }


def _add(tar: tarfile.TarFile, name: str, content: Path | bytes) -> None:
    """Adds a file without its time, owner and mode, so that the same runs give the same bytes."""
    member = tarfile.TarInfo(name)
    member.mode = 0o644
    if isinstance(content, bytes):
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
        return
    with content.open("rb") as file:
        member.size = content.stat().st_size
        tar.addfile(member, file)
