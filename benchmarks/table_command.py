"""Time of `antioversmooth table` on many runs: `python -m benchmarks.table_command`.

Makes a thousand runs of 300 epochs (the project's own table, with enough seeds) and times the
process of the command, from its start to its end.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from antioversmooth.project import find_root
from benchmarks.fabricated import empty_project, overrides, plan_runs, write_done_run
from benchmarks.timing import Times, time_process

LIGHT = """
import sys
from antioversmooth.cli.main import main
code = main(sys.argv[1:])
heavy = {"torch", "timm", "mlflow", "matplotlib", "pandas", "numpy"}
loaded = heavy & {name.split(".")[0] for name in sys.modules}
sys.exit(f"a table imported {loaded}" if loaded else code)
"""
"""The command in a process that fails if it has imported a heavy package."""
TABLE = "table2"


@dataclass(frozen=True)
class TableLoad:
    """Size of the table."""

    seeds: int = 84
    """Of each of table2's twelve rows."""
    epochs: int = 300
    rounds: int = 3


LOAD, QUICK_LOAD = TableLoad(), TableLoad(1, 4, 1)


def table_times(project: Path, load: TableLoad) -> Times:
    """Seconds of each `antioversmooth table`, by the clock and of CPU.

    Args:
        project: Holds `experiments/`.
    """
    with empty_project(project) as folder:
        runs = plan_runs(folder, [f"tables/{TABLE}"], range(load.seeds), load.epochs)
        for run in runs:
            write_done_run(run, load.epochs)
        found = [_time_table(folder, load) for _ in range(load.rounds)]
    name = f"table of {len(runs):,} runs x {load.epochs} epochs"
    return {name: [wall for _, wall in found], f"{name}, CPU": [cpu for cpu, _ in found]}


def _time_table(project: Path, load: TableLoad) -> tuple[float, float]:
    seeds = ",".join(map(str, range(load.seeds)))
    options = ["--seeds", seeds, "--output", "tables"]
    command = [sys.executable, "-c", LIGHT, "table", TABLE, *overrides(load.epochs), *options]
    return time_process(command, cwd=project)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the times as JSON; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table_command", description=__doc__)
    for name, default in dataclasses.asdict(LOAD).items():
        parser.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"default: {default}"
        )
    args = parser.parse_args(arguments)
    print(json.dumps(table_times(find_root(), TableLoad(**vars(args))), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
