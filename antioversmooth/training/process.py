"""One rank of a run as a process: trains, and says by its exit code how that ended."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from pathlib import Path

from antioversmooth.errors import AntiOversmoothError, AttemptEnded, UserError
from antioversmooth.runs import Run
from antioversmooth.runs.attempts import RESUMABLE, EndReason
from antioversmooth.runs.code import require_launched_code
from antioversmooth.training.run.attempt import SUPERSEDED, describe, end_of
from antioversmooth.training.run.distributed import rank_from_env
from antioversmooth.training.train import train

EXIT_RESUMABLE = os.EX_TEMPFAIL
"""Exit code of an attempt that ended early and can be resumed."""

_RESUMABLE_REASONS = {SUPERSEDED, *(reason.value for reason in RESUMABLE)}


def run_attempt(directory: Path) -> int:
    """Trains a run, with output to the attempt's log folder; returns the exit code."""
    code = 0
    try:
        require_launched_code(directory)
        train(Run.load(directory), redirect=True)
    except KeyboardInterrupt:
        code = EXIT_RESUMABLE
    except Exception as err:
        if rank_from_env(os.environ).rank == 0 or not isinstance(err, AntiOversmoothError):
            # an error that all ranks share is printed once
            print(describe(err), file=sys.stderr)
        code = exit_code(err)
    _kill_workers()
    return code


def _kill_workers() -> None:
    """Kills the data loading workers of this process.

    Python's exit would send them SIGTERM and wait forever: they ignore SIGTERM, since schedulers
    may send it to all processes of a job.
    """
    workers = multiprocessing.active_children()
    if workers:
        # torch's handler would report them as lost
        handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for process in workers:
            process.kill()
            process.join()
        signal.signal(signal.SIGCHLD, handler)


def exit_code(error: Exception) -> int:
    """Exit code of a process whose training raised an error."""
    if isinstance(error, AttemptEnded) and error.reason in _RESUMABLE_REASONS:
        return EXIT_RESUMABLE
    reason, _ = end_of(error)
    return 2 if isinstance(error, UserError) or reason is EndReason.disk_full else 1
