"""The price of a launch as a whole: jobs, device-hours, wall time and disk."""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from antioversmooth.orchestration import preflight
from antioversmooth.runs import Run
from antioversmooth.text import counted

AT_A_TIME = (1, 4, 16)
"""Numbers of jobs at a time for which the wall time is said, besides all at once."""


@dataclass(frozen=True)
class Cost:
    """The device time of one run."""

    run: Run
    device_hours: float | None
    """Of the whole run; None where it cannot be said."""
    fraction_done: float
    """Part of it that is trained already, 0 to 1."""
    processes: int
    is_done: bool
    starts: bool
    """Whether a launch starts it: it is not done, and its result is not refused."""
    is_live: bool = False
    """Whether it runs or waits for its turn already, so that a launch leaves it alone."""

    @property
    def is_to_come(self) -> bool:
        """Whether it is not done, and a launch starts it or leaves it to go on."""
        return self.starts or self.is_live

    @property
    def device_hours_left(self) -> float:
        """Those that are still to come; 0 where they cannot be said."""
        return (self.device_hours or 0.0) * (1 - self.fraction_done)

    @property
    def hours_left(self) -> float:
        """Hours of computation on all devices of the run that are still to come."""
        return self.device_hours_left / self.processes

    @property
    def num_jobs(self) -> int:
        """Jobs, or turns of one, that the rest of the run takes at least."""
        cluster = self.run.experiment.cluster
        usable_s = 60 * cluster.time_min - cluster.signal_delay_s
        return max(1, ceil(3600 * self.hours_left / usable_s))


def totals(costs: Sequence[Cost], *, submits: bool, at_a_time: int = 0) -> dict[str, Any]:
    """The sums over the runs of a launch, as JSON types.

    Args:
        costs: Of all runs, dependencies first.
        submits: Whether the runs become jobs.
        at_a_time: Most runs side by side; 0: the usual numbers, and all at once.
    """
    pending = [cost for cost in costs if cost.is_to_come]
    numbers = (at_a_time,) if at_a_time else AT_A_TIME
    slots = {str(n): n for n in numbers if n < len(pending)}
    if not at_a_time or at_a_time >= len(pending):
        slots["all"] = len(pending)
    return {
        "runs": len(costs),
        "done": sum(cost.is_done for cost in costs),
        "live": sum(cost.is_live for cost in costs),
        "to_start": sum(cost.starts for cost in costs),
        "jobs": sum(cost.num_jobs for cost in costs if cost.starts) if submits else None,
        "device_hours": sum(cost.device_hours or 0.0 for cost in costs),
        "device_hours_left": sum(cost.device_hours_left for cost in pending),
        "not_estimated": sum(cost.device_hours is None for cost in pending),
        "wall_hours": {name: wall_hours(pending, number) for name, number in slots.items()},
        "disk_bytes": preflight.disk_bytes([cost.run for cost in pending]),
    }


def wall_hours(costs: Sequence[Cost], at_a_time: int) -> float:
    """Hours until the last run ends, if each starts as soon as those that it needs have ended.

    Time in the queue is not part of it.

    Args:
        costs: Of the runs that start.
        at_a_time: Most runs side by side.
    """
    of = {cost.run.id: cost for cost in costs}
    needed = {i: {run.id for run in of[i].run.dependencies if run.id in of} for i in of}
    dependents = defaultdict(list)
    for run_id, ids in needed.items():
        for before in ids:
            dependents[before].append(run_id)
    ready = deque(run_id for run_id, ids in needed.items() if not ids)
    running: list[tuple[float, str]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < at_a_time:
            started = ready.popleft()
            heapq.heappush(running, (now + of[started].hours_left, started))
        now, ended = heapq.heappop(running)
        for run_id in dependents[ended]:
            needed[run_id].remove(ended)
            if not needed[run_id]:
                ready.append(run_id)
    return now


def lines(totals: dict[str, Any]) -> list[str]:
    """The totals for people, one line each."""
    number = counted(totals["runs"], "run")
    live = f"{totals['live']:,} running or waiting, " if totals["live"] else ""
    runs = f"total: {number}, {totals['done']:,} done, {live}{totals['to_start']:,} to start"
    unknown, left = totals["not_estimated"], totals["device_hours_left"]
    still = (
        ""
        if left == totals["device_hours"]
        else f", {device_hours_text(left)} of them still to come"
    )
    without = f"; {unknown:,} of the runs cannot be estimated" if unknown else ""
    found = [runs]
    if totals["device_hours"] or not unknown:
        found.append(
            f"{device_hours_text(totals['device_hours'])} device-hours in all{still}{without}"
        )
    else:
        found.append("device-hours: none of the runs can be estimated yet (doctor measures them)")
    to_come = totals["to_start"] + totals["live"]
    if not to_come:
        return found
    if totals["jobs"]:
        found.append(f"at least {counted(totals['jobs'], 'job')}, by cluster.time_min")
    if unknown < to_come:
        least = "at least " if unknown else ""
        hours = (f"{_time(value)} {_at_a_time(n)}" for n, value in totals["wall_hours"].items())
        queue = "" if totals["jobs"] is None else "; time in the queue comes on top"
        found.append(f"{least}{', '.join(hours)}{queue}")
    mib = totals["disk_bytes"] / 2**20
    disk = f"{mib / 1024:,.1f} GiB" if mib >= 1024 else f"{mib:,.0f} MiB"
    return [*found, f"about {disk} of disk for checkpoints and journals"]


def device_hours_text(hours: float) -> str:
    """Device-hours to a hundredth, without a unit; less is not rounded to nothing."""
    return "under 0.01" if 0 < hours < 0.01 else f"{hours:,.2f}"


def _time(hours: float) -> str:
    """Hours to a tenth; minutes where they are less than one."""
    if hours >= 1:
        return f"{hours:,.1f} h"
    return f"{60 * hours:.0f} min" if 60 * hours >= 1 else "under 1 min"


def _at_a_time(number: str) -> str:
    return "with all at once" if number == "all" else f"with {number} at a time"
