"""Findings of all ranks, brought together: one for each check, and one for ranks that wrote none.

FOLDER/
  request.json        the request, see training/probes/request.py
  rank<r>.jsonl       findings of a rank, a line each
  rank0.probing       what rank 0 probes now
  rank<r>.waiting     made by a rank that waits for the warning signal
  batch.jsonl         findings of the batch script of a job
  job.sh              the batch script; <job>_<rank>_log.{out,err}: its output
  runs/               prepared runs, whose data and models are probed
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from antioversmooth.errors import ResultError
from antioversmooth.finding import Finding, Level
from antioversmooth.orchestration.doctor.report import line_of
from antioversmooth.orchestration.slurm.epilogue import find_cause
from antioversmooth.text import log_lines, one_line

SEVERITY = (Level.ok, Level.warning, Level.wrong)
SETTLE_S = 10.0
"""Seconds after which the files of ranks that have ended are called missing."""
_END_OF_TURN = re.compile("DUE TO JOB REQUEUE")
"""SLURM's words on the end of a turn, which every job of probes has."""
_AFTERMATH = re.compile(
    r"CANCELLED AT|Terminat|task \d+: (Exited|Killed)|step aborted|^rank \d+: ok:"
)
"""Lines of a log that follow from another one, or say that all was well."""
LONG_S = 1.0
"""Seconds after which a probe that is under way is named."""
LOG_LINES = 3
"""Last lines of a log that are quoted."""


def is_waiting(folder: Path, rank: int) -> bool:
    """Whether a rank waits for the warning signal."""
    # a room that is imported where it is used: it belongs to the nodes
    from antioversmooth.training.probes.request import WAITING

    return (folder / WAITING.format(rank)).exists()


def gather(folder: Path, world_size: int, *, ended: bool) -> list[Finding]:
    """The findings of the ranks and of the batch script, and what is missing of them.

    Args:
        world_size: Ranks that should have written findings.
        ended: Whether all of them ended by themselves, and none is still to write.
    """
    if ended:
        _settle(folder, world_size)
    by_rank = {rank: read(folder / f"rank{rank}.jsonl") for rank in range(world_size)}
    silent = [rank for rank, found in by_rank.items() if not found]
    unfinished = [r for r in by_rank if r not in silent and not is_waiting(folder, r)]
    found = [*merge(by_rank), *read(folder / "batch.jsonl")]
    if ended and silent:
        found.append(_silent(folder, silent, world_size))
    if ended and unfinished:
        found.append(_unfinished(folder, unfinished))
    return found


class Progress:
    """Shows what rank 0 finds that is not ok, and what it probes for long, while it does so."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._folder, self._say = folder, say
        self._seen = 0
        self._probe, self._since, self._is_said = "", 0.0, False

    def look(self) -> None:
        """Shows what is new."""
        found = read(self._folder / "rank0.jsonl")
        for finding in found[self._seen :]:
            if finding.level is not Level.ok:
                self._say(line_of(finding))
        self._seen = max(self._seen, len(found))
        if probe := self._under_way():
            now = time.monotonic()
            if probe != self._probe:
                self._probe, self._since, self._is_said = probe, now, False
            if not self._is_said and now - self._since >= LONG_S:
                self._is_said = True
                self._say(f"probing: {probe}")

    def _under_way(self) -> str:
        """The probe that rank 0 makes, with its time limit."""
        # a room that is imported where it is used: it belongs to the nodes
        from antioversmooth.training.probes.request import PROBING

        try:
            return one_line((self._folder / PROBING).read_text(errors="replace"))
        except OSError:
            return ""


def _settle(folder: Path, world_size: int) -> None:
    """Waits for files of the ranks that this machine's cache of a file server does not show yet."""
    deadline = time.monotonic() + SETTLE_S
    while len(list(folder.glob("rank*.jsonl"))) < world_size and time.monotonic() < deadline:
        time.sleep(0.5)


def read(path: Path) -> list[Finding]:
    """The findings in a file, as far as its lines are whole; none where there is no file."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            found.append(Finding.from_line(line))
        except ResultError:
            # the last line of a process that was killed, or of a full disk
            continue
    return found


def merge(by_rank: Mapping[int, Sequence[Finding]]) -> Iterator[Finding]:
    """One finding for each check, where the ranks agree on its level; else the worse ones."""
    same: dict[tuple[str, str, int], list[tuple[int, Finding]]] = {}
    for rank, found in by_rank.items():
        seen: Counter[str] = Counter()
        for finding in found:
            # a check that finds several things finds them in the same order everywhere
            key = (finding.place.value, finding.check, seen[finding.check])
            seen[finding.check] += 1
            same.setdefault(key, []).append((rank, finding))
    for group in same.values():
        yield _with_row(_together(group, len(by_rank)))


def _together(group: Sequence[tuple[int, Finding]], world_size: int) -> Finding:
    """The worst finding of a group of the same check, with the ranks that found it."""
    worst = max((finding.level for _, finding in group), key=SEVERITY.index)
    concerned = [(rank, finding) for rank, finding in group if finding.level is worst]
    _, first = concerned[0]
    if world_size == 1 or (worst is Level.ok and len({f.text for _, f in concerned}) == 1):
        return first
    more = len(concerned) - 1
    others = f" (and {more} more {'rank' if more == 1 else 'ranks'})" if more else ""
    whose = "" if worst is Level.ok else f"{_whose(*concerned[0])}: "
    return replace(first, text=f"{whose}{first.text}{others}")


def _with_row(finding: Finding) -> Finding:
    """The finding, with the name of the row that it is about."""
    directory = finding.values.get("run")
    if not isinstance(directory, str):
        return finding
    return replace(finding, text=f"{Path(directory).parent.name}: {finding.text}")


def _whose(rank: int, finding: Finding) -> str:
    host = finding.values.get("host")
    return f"rank {rank} on {one_line(str(host))}" if host else f"rank {rank}"


def _silent(folder: Path, silent: Sequence[int], world_size: int) -> Finding:
    text = f"rank {', '.join(map(str, silent))} of {world_size} wrote nothing"
    return _explained(folder, silent, text)


def _unfinished(folder: Path, unfinished: Sequence[int]) -> Finding:
    text = f"rank {', '.join(map(str, unfinished))} ended before all was probed"
    return _explained(folder, unfinished, text)


def _explained(folder: Path, ranks: Sequence[int], text: str) -> Finding:
    """A finding about ranks, with the cause that SLURM or their logs give."""
    advice = f"look at the logs in {folder}"
    words = last_words(folder, ranks)
    if cause := find_cause(_job_log(folder)):
        words = cause.message
    return Finding("ranks", Level.wrong, f"{text}: {words}", advice, {"ranks": list(ranks)})


def last_words(folder: Path, ranks: Sequence[int]) -> str:
    """The last lines in the log of the first of these ranks that says why it ended, in one line.

    The log of rank 0 is the job's, too. What SLURM says there about an end by another rank's fault
    counts where nothing else is said.
    """
    logs = [path for rank in ranks for path in sorted(folder.glob(f"*_{rank}_log.err"))]
    logs += sorted(folder.glob("*_0_log.err"))
    for says_nothing in (_AFTERMATH, _END_OF_TURN):
        for path in logs:
            lines = dict.fromkeys(line for line in _lines(path) if not says_nothing.search(line))
            if lines:
                return one_line(" | ".join(log_lines("\n".join(lines), LOG_LINES)))
    return "its log is empty"


def _job_log(folder: Path) -> str:
    """The output of a job's batch script, of srun and of slurmstepd."""
    return "\n".join(line for path in sorted(folder.glob("*_0_log.err")) for line in _lines(path))


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
