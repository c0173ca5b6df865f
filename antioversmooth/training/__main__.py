"""`python -m antioversmooth.training RUN_DIR`: one rank of a run, as torchrun or a SLURM step
starts it."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from antioversmooth.errors import AntiOversmoothError, AttemptEnded, UserError
from antioversmooth.runs import Run
from antioversmooth.runs.journal import EndReason
from antioversmooth.training.run.attempt import SUPERSEDED, describe, end_of
from antioversmooth.training.run.distributed import find_place
from antioversmooth.training.train import train

RESUMABLE = os.EX_TEMPFAIL
"""Exit code of an attempt that ended early and is to be continued."""

_RESUMABLE_REASONS = (
    EndReason.preempted.value,
    EndReason.timeout.value,
    EndReason.cancelled.value,
    SUPERSEDED,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains the run of a directory; 0 completed, 75 ended early and resumable, 2 a user's mistake,
    1 anything else."""
    (directory,) = sys.argv[1:] if arguments is None else arguments
    # what is aborted from within a library, as NCCL does with ranks that hang, says where it was
    faulthandler.enable(file=2)
    return run_attempt(Path(directory))


def run_attempt(directory: Path) -> int:
    """Trains the run of a directory with its output in the attempt's log folder; the exit code as
    `main`."""
    code = 0
    try:
        train(Run.load(directory), redirect=True)
    except KeyboardInterrupt:
        code = RESUMABLE
    except Exception as err:
        if find_place(os.environ).rank == 0 or not isinstance(err, AntiOversmoothError):
            # what all ranks know is said once
            print(describe(err), file=sys.stderr)
        code = exit_code(err)
    _end_loading_processes()
    return code


def _end_loading_processes() -> None:
    """Ends what loads data for this process, after whatever ended training.

    Left to Python's exit they would be sent SIGTERM, which they ignore for the sake of schedulers
    that signal every process of a job, and be waited for without end.
    """
    loading = multiprocessing.active_children()
    if loading:
        # torch's would report them as lost
        handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for process in loading:
            process.kill()
            process.join()
        signal.signal(signal.SIGCHLD, handler)


def exit_code(error: Exception) -> int:
    """What the process ends with."""
    if isinstance(error, AttemptEnded) and error.reason in _RESUMABLE_REASONS:
        return RESUMABLE
    reason, _ = end_of(error)
    return 2 if isinstance(error, UserError) or reason is EndReason.disk_full else 1


if __name__ == "__main__":
    sys.exit(main())
