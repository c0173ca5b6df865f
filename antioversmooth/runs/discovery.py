"""All runs of a results folder, found by their directories."""

from __future__ import annotations

from pathlib import Path

from antioversmooth.errors import ResultError
from antioversmooth.runs.directory import Run, dir_name

PATTERNS = ("runs/*/seed*-*", "*/runs/*/seed*-*")
"""Directories of runs: of the paper's profile, and of other profiles."""


class Discovery:
    """Finds runs repeatedly; each spec is read once, since it never changes."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self.unreadable: dict[Path, str] = {}
        """Directories with an invalid spec, and the reason."""
        self._known: dict[Path, Run] = {}

    def runs(self) -> list[Run]:
        """All current runs, ordered by directory."""
        found = sorted(path for pattern in PATTERNS for path in self.results.glob(pattern))
        for directory in found:
            if (
                directory not in self._known
                and directory not in self.unreadable
                and (directory / "spec.yaml").exists()
            ):
                self._load(directory)
        return [self._known[directory] for directory in found if directory in self._known]

    def _load(self, directory: Path) -> None:
        try:
            run = Run.load(directory)
        except ResultError as err:
            self.unreadable[directory] = str(err)
            return
        if directory.name == dir_name(run.seed, run.id):
            self._known[directory] = run
        else:
            self.unreadable[directory] = f"it is a copy of run {run.id[:8]}; move it away"
