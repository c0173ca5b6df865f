"""`python -m antioversmooth.training RUN_DIR`: one rank of a run, for torchrun and SLURM steps."""

from __future__ import annotations

import faulthandler
import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains the run in a directory.

    Returns:
        The exit code: 0 completed, 75 ended early and resumable, 2 the user's mistake, 1 other.
    """
    (directory,) = sys.argv[1:] if arguments is None else arguments
    # prints stacks when a library aborts the process, as NCCL does to ranks that hang
    faulthandler.enable(file=2)
    with without_collection():
        from antioversmooth.training.process import run_attempt
    return run_attempt(Path(directory))


@contextmanager
def without_collection() -> Iterator[None]:
    """Collects no garbage within, and leaves all that is there then out of later collections.

    The modules of PyTorch are half a million objects, and stay. To search them takes a sixth of the
    time of their import, and has each loading process make copies of their memory.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


if __name__ == "__main__":
    sys.exit(main())
