"""Findings of one rank, written line by line: a job that is killed has said what it had found."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from antioversmooth.finding import Finding
from antioversmooth.training.probes.request import PROBING


def report_path(folder: Path, rank: int) -> Path:
    """The file of the findings of a rank."""
    return folder / f"rank{rank}.jsonl"


class Report:
    """Adds findings to a rank's file, and to its log.

    Args:
        folder: None where this rank does not see the folder of the request: the log is all.
    """

    def __init__(self, folder: Path | None, rank: int, host: str) -> None:
        self.path = None if folder is None else report_path(folder, rank)
        self.rank, self.host = rank, host
        self._lock = threading.Lock()

    def begin(self, probe: str) -> None:
        """Notes a probe that begins, for those who wait for it."""
        if self.path is not None and self.rank == 0:
            with suppress(OSError):
                (self.path.parent / PROBING).write_text(probe)

    def add(self, finding: Finding) -> None:
        """Adds a finding, with rank and host among its values.

        The log comes first: the file may be on the disk that the finding says is full.
        """
        whereabouts = {"rank": self.rank, "host": self.host}
        found = replace(finding, values={**finding.values, **whereabouts})
        advice = f" -> {found.advice}" if found.advice else ""
        line = f"rank {self.rank}: {found.level.value}: {found.check}: {found.text}{advice}"
        with self._lock:
            # in one piece: ranks may share a log
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
            if self.path is not None:
                self._write(f"{found.to_line()}\n".encode())

    def _write(self, line: bytes) -> None:
        assert self.path is not None
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as err:
            print(f"rank {self.rank}: {self.path}: {err.strerror}", file=sys.stderr, flush=True)
