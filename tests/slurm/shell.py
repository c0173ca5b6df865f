"""A shell on a private SLURM, to try things by hand: `make slurm-shell`, or `python
tests/slurm/shell.py COMMAND...`.

    sinfo; python launch.py deit_s12 profile=mini --nodes 2 --gpus-per-node 0 --follow

The cluster ends with the shell. Its partitions are main, low (pre-empted by main) and evicted
(cancelled by main).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import cluster
from private import private_cluster


def main(command: list[str]) -> int:
    why = cluster.missing()
    if why:
        print(why, file=sys.stderr)
        return 2
    # an exit by SystemExit removes the cluster's folder
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    shared = cluster.shares_loopback()
    how = "on a shared loopback" if shared else "each with a network of its own"
    with private_cluster(nodes=3, accounting=True, proctrack=cluster.tracking(), shared=shared) as (
        private,
        _,
    ):
        print(
            f"nodes {', '.join(private.nodes)}, {how}; logs in {private.folder / 'log'}",
            file=sys.stderr,
            flush=True,
        )
        # `python` is the interpreter of the project
        ours = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        shell = command or [os.environ.get("SHELL", "/bin/sh")]
        return subprocess.run(shell, env={**os.environ, **ours}).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
