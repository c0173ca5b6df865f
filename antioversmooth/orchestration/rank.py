"""What SLURM starts for every process of a run: `python -m antioversmooth.orchestration.rank RUN_DIR`."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Exit code of this process for SLURM: training's own, save that an orderly stop is no failure.

    The first task that ends with another code than 0 has srun kill the rest (`--kill-on-bad-exit`), which would hit
    ranks that are still writing the checkpoint they agreed on. What became of the run is read from its directory.
    """
    from antioversmooth.training.__main__ import main as train  # torch, and all that comes with it

    code = train(sys.argv[1:])
    return 0 if code == os.EX_TEMPFAIL else code


if __name__ == "__main__":
    sys.exit(main())
