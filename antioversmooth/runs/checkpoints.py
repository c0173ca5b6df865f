"""Checkpoint files of a run: their names, their checksums, and which of them belong to the run.

    checkpoints/step00000500-attempt2.pt    model, moving average, optimizer, scaler, position
    checkpoints/step00000500-attempt2.pt.sha256

A checkpoint belongs to the run unless a later attempt has superseded its step (see attempts.py).
Their content needs torch: training/run/checkpoint.py reads and writes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from antioversmooth import files
from antioversmooth.errors import CheckpointError
from antioversmooth.runs.attempts import Attempt, superseded_after

CHECKPOINTS_OF_A_RUN = 3
"""Files that a run has at a time: the last two and the best."""
BYTES_PER_PARAMETER = 16
"""Weights, their moving average and AdamW's two moments, four bytes each."""
_NAME = re.compile(r"step(\d+)-attempt(\d+)\.pt")


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint file."""

    path: Path
    step: int
    attempt: int
    """Number of the attempt that wrote it."""

    @classmethod
    def named(cls, folder: Path, step: int, attempt: int) -> Checkpoint:
        """The checkpoint of a step and an attempt."""
        return cls(folder / f"step{step:08d}-attempt{attempt}.pt", step, attempt)

    @classmethod
    def at(cls, path: Path) -> Checkpoint:
        """The checkpoint at a path.

        Raises:
            CheckpointError: Its name is not that of a checkpoint.
        """
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise CheckpointError(f"{path} is not named like a checkpoint (step<n>-attempt<n>.pt)")
        return cls(path, int(match[1]), int(match[2]))

    @property
    def checksum_path(self) -> Path:
        return self.path.with_name(self.path.name + ".sha256")

    @property
    def checksum(self) -> str:
        """Recorded sha256 in hex; empty where there is none."""
        try:
            return self.checksum_path.read_text().split()[0]
        except (FileNotFoundError, IndexError):
            return ""

    def is_whole(self) -> bool:
        """Whether the file has its recorded checksum."""
        return self.path.is_file() and files.sha256(self.path) == self.checksum

    def delete(self) -> None:
        self.path.unlink(missing_ok=True)
        self.checksum_path.unlink(missing_ok=True)


def list_checkpoints(folder: Path) -> list[Checkpoint]:
    """All checkpoints of a folder, newest step first; files with other names are ignored."""
    paths = [path for path in folder.glob("step*-attempt*.pt") if _NAME.fullmatch(path.name)]
    return sorted(map(Checkpoint.at, paths), key=lambda c: (c.step, c.attempt), reverse=True)


def checkpoints_in_lineage(
    checkpoints: Iterable[Checkpoint], attempts: Iterable[Attempt]
) -> list[Checkpoint]:
    """The checkpoints whose step no later attempt has superseded, in their order."""
    limit = superseded_after(attempts)
    return [c for c in checkpoints if c.step <= limit.get(c.attempt, float("inf"))]
