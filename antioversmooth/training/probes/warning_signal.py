"""The warning signal that the scheduler sends before the time limit."""

from __future__ import annotations

import time
from collections.abc import Iterator

from antioversmooth.finding import Finding
from antioversmooth.training.probes.context import Context, ok, wrong
from antioversmooth.training.probes.request import WAITING

POLL_S = 0.05


def look(context: Context) -> Iterator[Finding]:
    """Waits for the signal, which a run's handler takes; one that came before counts, too."""
    wait_s = context.request.signal_wait_s
    if not wait_s:
        return
    started = time.monotonic()
    (context.folder / WAITING.format(context.info.rank)).touch()
    while not context.stop.action.stops and time.monotonic() - started < wait_s:
        time.sleep(POLL_S)
    waited_s = time.monotonic() - started
    if context.stop.action.stops:
        yield ok(
            "signal",
            f"it came after {waited_s:.1f} s; a run would save, and end with the reason"
            f" {context.stop.action.name}",
            waited_s=round(waited_s, 3),
            reason=context.stop.action.name,
        )
    else:
        yield wrong(
            "signal",
            f"none came within {wait_s:g} s",
            "runs would be killed at their time limit without saving: check that --signal of the"
            " batch script reaches the ranks, and that nothing in cluster.setup traps it",
            waited_s=round(waited_s, 3),
        )
