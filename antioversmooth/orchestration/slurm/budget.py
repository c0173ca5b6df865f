"""Whether a run that did not complete may be started again: budgets by reason.

Pre-emptions, time-outs and node failures cost nothing as long as the run gets on; crashes are few;
what a person has to mend first (no space left, a wrong path) is not tried again at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile

from antioversmooth.orchestration.monitor.progress import saved_step
from antioversmooth.orchestration.slurm import jobs
from antioversmooth.orchestration.slurm.client import RUNNING
from antioversmooth.runs import Run
from antioversmooth.runs.journal import EndReason, Record

USER_ERROR = 2
"""Exit code of a process that cannot run until a person mends something."""

_CRASHES = {EndReason.crash.value, EndReason.hang.value, EndReason.out_of_memory.value}


@dataclass(frozen=True)
class Verdict:
    """Whether to start a run again, and why or why not."""

    again: bool
    why: str


def verdict(run: Run) -> Verdict:
    """Whether this run may be started again by itself, judged by all attempts since a person last
    said retry."""
    history = jobs.events(run)
    since = max((r["time"] for r in history if r["event"] == "retry"), default=0.0)
    attempts = [r for r in run.attempts() if r["time"] > since]
    endings = [r for r in history if r["event"] == "ended" and r["time"] > since]
    unheard = _unheard([r for r in history if r["time"] > since], attempts)
    return _judge(run, attempts, endings, unheard)


def _judge(run: Run, attempts: list[Record], endings: list[Record], unheard: int) -> Verdict:
    cluster = run.experiment.cluster
    ends = [r for r in attempts if r["event"] == "end"]
    if ends and ends[-1]["reason"] == EndReason.disk_full.value:
        return Verdict(
            False,
            "no space left for its files: a full disk, a quota, or a limit on the size of files",
        )
    if endings and endings[-1]["code"] == USER_ERROR:
        return Verdict(False, "it cannot start until something is mended")
    # Ranks that lose the others crash, but not by a fault of theirs where SLURM was ending the job:
    # a node was lost.
    excused = {r.get("attempt") for r in endings if r["state"] != RUNNING}
    crashes = sum(r["reason"] in _CRASHES and r["attempt"] not in excused for r in ends)
    if crashes >= cluster.max_crashes:
        return Verdict(False, f"it crashed {crashes} times (cluster.max_crashes)")
    fruitless = _fruitless(run, attempts, endings) + unheard
    if fruitless >= cluster.max_without_progress:
        return Verdict(
            False, f"{fruitless} attempts in a row made no step (cluster.max_without_progress)"
        )
    return Verdict(True, f"{len(ends)} attempts so far, {crashes} of them crashed")


def _fruitless(run: Run, attempts: list[Record], endings: list[Record]) -> int:
    """How many times in a row, up to now, the run was started without a new checkpoint coming of
    it."""
    starts = [(r["attempt"], r["step"]) for r in attempts if r["event"] == "start"]
    reached = [step for _, step in starts[1:]] + [saved_step(run, starts[-1][0])] if starts else []
    count = 0
    for (_, begun), step in zip(reversed(starts), reversed(reached), strict=True):
        if step > begun:
            break
        count += 1
    jobs_without_attempt = list(takewhile(lambda r: "attempt" not in r, reversed(endings)))
    return count + len(jobs_without_attempt)


def _unheard(history: list[Record], attempts: list[Record]) -> int:
    """How many of the last jobs in a row ended without a word: in a line of `cluster.setup`, or on
    a broken node."""
    heard = {r.get("job_id") for r in attempts} | {
        r["job_id"] for r in history if r["event"] == "ended"
    }
    since_cancel = takewhile(lambda r: r["event"] != "cancelled", reversed(history))
    submitted = (r["job_id"] for r in since_cancel if r["event"] == "submitted")
    return sum(1 for _ in takewhile(lambda job_id: job_id not in heard, submitted))
