"""CPU time and memory of commands about 100, 1,000 and 10,000 runs: `python -m benchmarks --only
size`.

SLURM is simulated, and the runs of the project's own table are fabricated: half of them are done, a
quarter runs and a quarter waits. A launch has none of them before it. It is refused where the disk
is too small for the checkpoints of all runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from antioversmooth.cli.exit_codes import USER_ERROR
from antioversmooth.orchestration.slurm.script import job_name
from antioversmooth.runs import Run
from benchmarks import simulated_slurm
from benchmarks.fabricated import (
    empty_project,
    overrides,
    plan_runs,
    write_begun_run,
    write_done_run,
)

TABLE = "table2"
ROWS = 12
LIMITS_S = {"one look of a follow": 10.0, "status": 10.0, "table": 20.0, "sync, nothing new": 20.0}
"""CPU seconds of commands about the largest number of runs."""
LIMIT_BYTES = 1.5e9
Sizes = dict[str, dict[str, dict[str, float]]]
"""CPU seconds, those of SLURM's clients, and bytes at the peak, by command and number of runs."""


@dataclass(frozen=True)
class SizeLoad:
    """Numbers of runs, and epochs of each."""

    runs: tuple[int, ...] = (100, 1_000, 10_000)
    epochs: int = 30


LOAD, QUICK_LOAD = SizeLoad(), SizeLoad((12, 24), 4)


def size_costs(project: Path, load: SizeLoad) -> Sizes:
    """Measures each command for each number of runs.

    Args:
        project: Holds `experiments/`.
    """
    costs: Sizes = {}
    for size in load.runs:
        seeds = range(-(-size // ROWS))
        for command, cost in costs_of(project, seeds, load.epochs):
            costs.setdefault(command, {})[f"{len(seeds) * ROWS:,}"] = cost
    return costs


def costs_of(
    project: Path, seeds: Sequence[int], epochs: int
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yields the commands about runs of these seeds, each with its cost."""
    words = [*overrides(epochs), "--seeds", ",".join(map(str, seeds))]
    launch = [f"experiments/tables/{TABLE}.yaml", *words, "--backend=slurm"]
    with empty_project(project) as folder:
        slurm = simulated_slurm.install(folder / "slurm")
        yield "dry run", _cost(folder, slurm, "launch", *launch, "--dry-run")
        yield "launch", _cost(folder, slurm, "launch", *launch, "--yes")
    with empty_project(project) as folder:
        slurm = simulated_slurm.install(folder / "slurm", _fabricate(folder, seeds, epochs))
        yield "one look of a follow", _cost(folder, slurm, "tick", *launch)
        yield "status", _cost(folder, slurm, "command", "status")
        yield "why", _cost(folder, slurm, "command", "why", "deit_s12", *overrides(epochs))
        yield "table", _cost(folder, slurm, "command", "table", TABLE, *words, "--output", "made")
        made = ["made/table2.json", "--results", "results/mini", "--without-checkpoints"]
        yield "verify", _cost(folder, slurm, "command", "verify", *made)
        sync = ["sync", TABLE, *words, "--no-models"]
        yield "sync, first", _cost(folder, slurm, "command", *sync)
        yield "sync, nothing new", _cost(folder, slurm, "command", *sync)


def _fabricate(project: Path, seeds: Sequence[int], epochs: int) -> list[dict[str, str]]:
    """Writes the run directories; returns the jobs of those that are not done."""
    jobs = []
    for number, run in enumerate(plan_runs(project, [f"tables/{TABLE}"], seeds, epochs)):
        if number % 4 < 2:
            _write_done(run, epochs)
            continue
        is_running = number % 4 == 2
        write_begun_run(run, epochs, job_id=str(number), is_running=is_running)
        jobs.append(simulated_slurm.job(number, job_name(run), runs=is_running))
    return jobs


def _write_done(run: Run, epochs: int) -> None:
    write_done_run(run, epochs)
    run.prepare()


def _cost(project: Path, slurm: Mapping[str, str], kind: str, *words: str) -> dict[str, float]:
    """The cost of a command in a process of its own.

    Raises:
        RuntimeError: It ended with a traceback.
    """
    target = project / "cost.json"
    target.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.measured_command", str(target), kind, *words]
    environment = {key: value for key, value in slurm.items() if key != "MLFLOW_TRACKING_URI"}
    own = str(Path(__file__).resolve().parents[1])
    environment["PYTHONPATH"] = os.pathsep.join([own, *filter(None, [slurm.get("PYTHONPATH")])])
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    if not target.exists():
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr}")
    cost: dict[str, float] = json.loads(target.read_text())
    return cost


def rows(costs: Mapping[str, Any]) -> Iterator[list[str]]:
    """The cells of a Markdown table: CPU seconds and memory, by command and number of runs."""
    sizes = list(next(iter(costs.values())))
    yield ["CPU seconds, and peak memory", *(f"{size} runs" for size in sizes)]
    for command, by_size in costs.items():
        yield [command, *(_cell(by_size[size]) for size in sizes)]


def _cell(cost: Mapping[str, float]) -> str:
    clients = f" + {cost['clients_s']:.0f} s of clients" if cost["clients_s"] >= 1 else ""
    refused = "refused: " if cost["exit_code"] == USER_ERROR else ""
    return f"{refused}{cost['cpu_s']:.2f} s{clients}, {cost['peak_bytes'] / 2**20:.0f} MiB"
