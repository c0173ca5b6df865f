"""A rank under SLURM: `python -m antioversmooth.orchestration.slurm.rank RUN_DIR`."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType


def main() -> int:
    """Exit code of this process for SLURM: that of training, but 0 for an orderly stop.

    The first task that ends with another code than 0 has srun kill the rest (`--kill-on-bad-exit`),
    which would hit ranks that are still writing the checkpoint they agreed on. The epilogue
    reads the outcome from the run directory.
    """
    repeat_early_signals()
    # which imports torch, and all that comes with it
    from antioversmooth.training.__main__ import main as train

    code = train(sys.argv[1:])
    return 0 if code == os.EX_TEMPFAIL else code


def repeat_early_signals() -> None:
    """Has the signals that end a run in order come again, until its own handlers are there."""
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, _again_in_a_moment)


def _again_in_a_moment(number: int, frame: FrameType | None) -> None:
    """Sends a signal that comes before training listens to it once more, a second later.

    A short job may get the warning of its time limit while torch is being imported; the default
    would be to die of it.
    """
    again = threading.Timer(1.0, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()


if __name__ == "__main__":
    sys.exit(main())
