"""`python -m antioversmooth.training.probes FOLDER`: one rank of the probes of a site."""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from antioversmooth.errors import LaunchError
from antioversmooth.training.probes.inspection import inspect
from antioversmooth.training.run.distributed import rank_from_env
from antioversmooth.training.run.signals import StopRequest


def main(arguments: Sequence[str] | None = None) -> int:
    """Probes this node for the request in a folder.

    Returns:
        0, whatever was found: with another code of one rank srun would end those that still probe;
        2: the request cannot be read.
    """
    (folder,) = sys.argv[1:] if arguments is None else arguments
    faulthandler.enable(file=2)
    stop = StopRequest(supervised=rank_from_env(os.environ).launcher == "torchrun")
    with stop.signal_handlers():
        try:
            ended = inspect(Path(folder).absolute(), stop)
        except LaunchError as err:
            print(err, file=sys.stderr)
            return 2
    if not ended:
        # the threads of probes that hang would keep the process
        sys.stderr.flush()
        os._exit(0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
