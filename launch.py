"""Trains rows and tables of experiments, on SLURM or on this machine.

    python launch.py experiments/cait_s24_featscale.yaml --nodes 2
    python launch.py experiments/tables/table2.yaml profile=mini --seeds 0,1,2

Finished runs are skipped and stopped runs resume: repeat the same command to continue.
Exit codes: 0 all done (or submitted), 1 a run failed, 2 an error that you can fix, 3 incomplete,
130 interrupted, 141 the reader of the output has left (`| head`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from antioversmooth.cli.main import launch

PROJECT = Path(__file__).resolve().parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs this program in the project that it lies in; returns the exit code."""
    return launch(arguments, project=PROJECT, description=str(__doc__))


if __name__ == "__main__":
    sys.exit(main())
