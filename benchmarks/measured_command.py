"""Runs a command of the project in this process and writes what it cost:
`python -m benchmarks.measured_command COST.json (launch|command|tick) WORDS ...`.

`tick` measures one look of `--follow`, after the plan, with the progress that it shows.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from antioversmooth.cli import parsers
from antioversmooth.cli.main import launch as run_launch
from antioversmooth.cli.main import main as run_command


def main(arguments: Sequence[str]) -> int:
    """Writes CPU seconds of this process and its children and the peak memory; returns 0."""
    target, kind, *words = arguments
    before = os.times()
    if kind == "command":
        code = run_command(words)
    elif kind == "launch":
        code = run_launch(words, project=Path.cwd())
    else:
        before, code = _tick(words), 0
    after = os.times()
    cost = {
        "cpu_s": after.user + after.system - before.user - before.system,
        "clients_s": after.children_user + after.children_system,
        "peak_bytes": _peak_bytes(),
        "exit_code": code,
    }
    Path(target).write_text(json.dumps(cost))
    return 0


def _tick(words: Sequence[str]) -> os.times_result:
    """Looks once as `--follow` does; returns the times before it."""
    from antioversmooth.cli.launch import plan
    from antioversmooth.orchestration import snapshot
    from antioversmooth.orchestration.monitor.view import open_view
    from antioversmooth.orchestration.slurm.reconcile import reconcile

    args = parsers.parse_launch(words, "")
    request, _, runs = plan(args, Path.cwd(), sys.stderr)
    code = snapshot.take(request.results(Path.cwd() / "results"))
    view = open_view(runs, sys.stdout)
    with view:
        view.update({})
        before = os.times()
        list(reconcile(runs, code, asked=False))
    return before


def _peak_bytes() -> int:
    """Most memory that this process has held.

    The kernel's own count; getrusage's would begin with that of the process that started this one.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
