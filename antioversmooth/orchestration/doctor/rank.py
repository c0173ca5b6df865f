"""A rank of doctor's job: `python -m antioversmooth.orchestration.doctor.rank FOLDER`."""

from __future__ import annotations

import os
import sys

from antioversmooth.orchestration.slurm.rank import repeat_early_signals


def main(arguments: list[str]) -> int:
    """Probes in the first turn of the job; its next turn only shows that there is one."""
    if os.environ.get("SLURM_RESTART_COUNT", "0") != "0":
        return 0
    repeat_early_signals()
    # torch, and all that comes with it
    from antioversmooth.training.probes.__main__ import main as probe

    return probe(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
