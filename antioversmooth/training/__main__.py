"""`python -m antioversmooth.training RUN_DIR`: one rank of a run, as torchrun or a SLURM step starts it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from antioversmooth.errors import AntiOversmoothError, AttemptEnded, UserError
from antioversmooth.journal import EndReason
from antioversmooth.runs import Run
from antioversmooth.training.attempt import SUPERSEDED, describe, end_of
from antioversmooth.training.distributed import find_place
from antioversmooth.training.train import train

RESUMABLE = os.EX_TEMPFAIL
"""Exit code of an attempt that ended early and is to be continued."""

_RESUMABLE_REASONS = (EndReason.preempted.value, EndReason.timeout.value, EndReason.cancelled.value, SUPERSEDED)


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains the run of a directory; 0 completed, 75 ended early and resumable, 2 a user's mistake, 1 anything else."""
    (directory,) = sys.argv[1:] if arguments is None else arguments
    return run_attempt(Path(directory))


def run_attempt(directory: Path) -> int:
    """Trains the run of a directory with its output in the attempt's log folder; the exit code as `main`."""
    try:
        train(Run.load(directory), redirect=True)
    except KeyboardInterrupt:
        return RESUMABLE
    except Exception as err:
        if find_place(os.environ).rank == 0 or not isinstance(err, AntiOversmoothError):
            print(describe(err), file=sys.stderr)  # what all ranks know is said once
        return exit_code(err)
    return 0


def exit_code(error: Exception) -> int:
    """What the process ends with."""
    if isinstance(error, AttemptEnded) and error.reason in _RESUMABLE_REASONS:
        return RESUMABLE
    reason, _ = end_of(error)
    return 2 if isinstance(error, UserError) or reason is EndReason.disk_full else 1


if __name__ == "__main__":
    sys.exit(main())
