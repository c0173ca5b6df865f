"""Ends a process that hangs, and has it say where: all its stacks go to its log.

Where one rank hangs, those that wait for it end after `runtime.timeout_s`, the time limit of their
group, and the launcher ends the rest. The stacks are written a little earlier, while the rank that
hangs still lives. Where all hang, or there is only one, nobody else would end the attempt, and so
it ends itself a little later; before its first batch much later, since listing a data set or
loading weights is no hang.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

from antioversmooth.background import background_thread
from antioversmooth.runs.attempts import EndReason
from antioversmooth.training.run.attempt import Attempt

SAY_AT, END_AT = 0.75, 1.25
"""Parts of `runtime.timeout_s` without progress."""
LOOKS = 20
"""How often it looks within `runtime.timeout_s`."""
PATIENCE_AT_FIRST = 6
"""How many times as long the first batch may take."""


@contextmanager
def watching(attempt: Attempt) -> Iterator[None]:
    """Watches over the progress of this process meanwhile."""
    with background_thread(partial(_watch, attempt), "watchdog"):
        yield


def _watch(attempt: Attempt, over: threading.Event) -> None:
    """Counts its own looks, not the clock, which goes on while the process is suspended."""
    limit = attempt.run.experiment.runtime.timeout_s
    seen, looks = 0, 0
    while not over.wait(limit / LOOKS):
        if attempt.ranks.progress.count == seen:
            looks += 1
        else:
            seen, looks = attempt.ranks.progress.count, 0
        patience = LOOKS if seen else LOOKS * PATIENCE_AT_FIRST
        if looks == round(SAY_AT * patience):
            message = "no progress for a long time; this is where each thread stands:"
            print(message, file=sys.stderr, flush=True)
            faulthandler.dump_traceback(file=2, all_threads=True)
        elif looks == round(END_AT * patience):
            _end(attempt, looks * limit / LOOKS)


def _end(attempt: Attempt, after_s: float) -> None:
    message = (
        f"rank {attempt.ranks.rank} got no further for {after_s:.0f} s; its log says where it"
        " stands"
    )
    with suppress(OSError):
        if attempt.ranks.is_main:
            attempt.write_end(EndReason.hang, message)
        else:
            attempt.note_from_any_rank("failure", rank=attempt.ranks.rank, message=message)
    # the main thread cannot be interrupted where it hangs
    os._exit(1)
