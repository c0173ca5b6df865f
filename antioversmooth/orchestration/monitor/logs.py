"""The logs of a run's newest attempt, printed and followed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TextIO

from antioversmooth.errors import LaunchError
from antioversmooth.orchestration.local.worker import launcher_log
from antioversmooth.runs import Run
from antioversmooth.runs.jobs import EventKind
from antioversmooth.runs.record import RunRecord
from antioversmooth.text import log_lines

REFRESH_S = 0.5


def log_files(run: Run, rank: int) -> list[Path]:
    """Logs of a rank of the newest attempt; where they are empty, of its launcher or its job.

    Raises:
        LaunchError: The attempt has no such rank.
    """
    number, folder = max(run.attempt_dirs(), default=(0, run.dir / "logs"))
    names = [path.stem.removeprefix("rank") for path in folder.glob("rank*.err")]
    ranks = {int(name) for name in names if name.isdecimal()}
    if ranks and rank not in ranks:
        raise LaunchError(
            f"attempt {number} of {run.name} has no rank {rank}; it has 0 to {max(ranks)}"
        )
    own = _nonempty(folder / f"rank{rank}.out", folder / f"rank{rank}.err")
    return own or _logs_before_training(run)


def _logs_before_training(run: Run) -> list[Path]:
    raw = sorted((run.dir / "slurm").glob("*_log.*"), key=lambda path: path.stat().st_mtime)
    newest = raw[-1].stem if raw else ""
    return _nonempty(launcher_log(run), *(path for path in raw if path.stem == newest))


def _nonempty(*paths: Path) -> list[Path]:
    return [path for path in paths if path.is_file() and path.stat().st_size]


def last_lines(run: Run, count: int = 5) -> list[str]:
    """The end of a log of the newest attempt: of the rank that raised, else of the launcher."""
    newest = max(run.attempt_dirs(), default=None)
    ranks = sorted(newest[1].glob("rank*.err")) if newest else []
    logs = [path.read_text(errors="replace") for path in _nonempty(*ranks, launcher_log(run))]
    written = [log for log in logs if log.strip()]
    best = next((log for log in written if "Traceback" in log), written[0] if written else "")
    return log_lines(best, count)


def last_log_lines(record: RunRecord) -> str:
    """The end of the log of the newest attempt or job, the one that failed."""
    logs = (record.run.dir / "slurm").glob("*.err")
    newest = max(logs, key=lambda log: log.stat().st_mtime, default=None)
    of_job = log_lines(newest.read_text(errors="replace"), 12) if newest else []
    of_attempt = last_lines(record.run, 12)
    ended = [event for event in record.events if event.kind is EventKind.ended]
    began_none = bool(ended) and ended[-1].attempt is None
    lines = (of_job or of_attempt) if began_none else (of_attempt or of_job)
    return "\n".join(f"    {line}" for line in lines)


class Printer:
    """Prints what was added to files since the last look, under the name of the file."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._read: dict[Path, int] = {}
        self._last: Path | None = None

    def show(self, path: Path) -> None:
        """Prints the new part of a file."""
        with path.open("rb") as file:
            file.seek(self._read.get(path, 0))
            added = file.read()
        if not added:
            return
        self._read[path] = self._read.get(path, 0) + len(added)
        if path != self._last:
            print(f"==> {path} <==", file=self._out)
            self._last = path
        print(added.decode(errors="replace"), end="", file=self._out, flush=True)


def show(run: Run, out: TextIO, *, rank: int = 0) -> None:
    """Prints the logs of a rank of the newest attempt.

    Raises:
        LaunchError: There is nothing in them though the run is not done, or no such rank.
    """
    found = log_files(run, rank)
    # a run that had nothing to complain about writes nothing
    if not found and run.result() is not None:
        _, folder = max(run.attempt_dirs(), default=(0, run.dir / "logs"))
        empty = f"{run.name} is done, and its logs are empty: {folder}"
        print(f"{empty}; its numbers: {run.metrics_path}", file=out)
        return
    if not found:
        raise LaunchError(
            f"the logs of {run.name} are empty; `status` shows its progress: {run.dir}"
        )
    printer = Printer(out)
    for path in found:
        printer.show(path)


def follow(run: Run, out: TextIO, *, rank: int = 0, refresh_s: float = REFRESH_S) -> None:
    """Prints the logs as they grow, those of further attempts too, until the run is done.

    Raises:
        LaunchError: There is no such rank.
    """
    printer = Printer(out)
    while True:
        # before the last look: training writes its result last
        done = run.result() is not None
        for path in log_files(run, rank):
            printer.show(path)
        if done:
            return
        time.sleep(refresh_s)
