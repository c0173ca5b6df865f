"""Commands that a person waits for: this project's, and those of other tools for the same ends."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import fabricated
from benchmarks.peers import projects
from benchmarks.peers.turns import Measurement, in_turns
from benchmarks.timing import time_process

LIMIT_S, ROUNDS_LIMIT_S = 60.0, 80.0
"""For one command, and for all rounds, which are fewer on a busy machine."""
TABLE = "table2"
"""Has twelve rows."""
EPOCHS = 300
"""Of the runs whose status is asked for."""


@dataclass(frozen=True)
class Command:
    """A command and the folder to run it in."""

    words: Sequence[str]
    folder: Path


OURS = (
    "antioversmooth --help",
    "launch --help",
    "launch --dry-run, a row",
    "launch --dry-run, 12 rows x 3 seeds",
    "status, 36 runs",
)
IMPORT = "import submitit"
"""The wait that ours need not be ahead of: it does nothing yet."""
PEERS = {
    IMPORT: "submitit",
    "hydra: app.py --cfg job": "hydra",
    "dora --help": "dora",
    "dora grid --dry_run, 36 runs": "dora",
    "snakemake -n, 36 jobs": "snakemake",
    "dvc --help": "dvc",
    "dvc status, 36 stages": "dvc",
}
"""The tool of each of the others."""
PROJECTS = {
    "hydra": projects.hydra,
    "dora": projects.dora,
    "snakemake": projects.snakemake,
    "dvc": projects.dvc,
}


def wait_times(
    project: Path, environments: Path, missing: Mapping[str, str], *, rounds: int
) -> dict[str, Any]:
    """CPU seconds and seconds by the clock of every command in every round.

    Args:
        environments: Holds that of each tool.
        missing: The tools that are not there, and the reasons.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with fabricated.empty_project(project) as own:
            failed = {name: missing[tool] for name, tool in PEERS.items() if tool in missing}
            commands = _ours(own) | _others(folder, environments, missing)
            calls = {name: partial(_time, command) for name, command in commands.items()}
            # an untimed round, since some tools make caches
            in_turns(calls, 1, failed, limit_s=ROUNDS_LIMIT_S)
            measured = in_turns(calls, rounds, failed, limit_s=ROUNDS_LIMIT_S)
    return {"commands": measured, "failed": failed}


def _time(command: Command) -> Measurement:
    """CPU seconds and seconds by the clock of a command.

    Raises:
        RuntimeError: The command fails, or does not end in time.
    """
    try:
        cpu, wall = time_process(command.words, cwd=command.folder, limit_s=LIMIT_S)
    except subprocess.TimeoutExpired as err:
        raise RuntimeError(f"did not end within {LIMIT_S:.0f} s") from err
    return {"cpu_s": cpu, "wall_s": wall}


def _ours(own: Path) -> dict[str, Command]:
    """The commands of this project.

    Args:
        own: A folder with the specs and no results; gets those of 36 runs that are done.
    """
    for run in fabricated.plan_runs(own, [f"tables/{TABLE}"], range(projects.SEEDS), EPOCHS):
        fabricated.write_done_run(run, EPOCHS)
        run.prepare()
    module = [sys.executable, "-m", "antioversmooth"]
    launch = [*module, "launch"]
    row = ["experiments/deit_s12.yaml", "profile=mini"]
    seeds = ["--seeds", ",".join(map(str, range(projects.SEEDS)))]
    table = [f"experiments/tables/{TABLE}.yaml", "profile=mini", *seeds]
    words = (
        [*module, "--help"],
        [*launch, "--help"],
        [*launch, *row, "--dry-run"],
        [*launch, *table, "--dry-run"],
        [*module, "status", *table, f"recipe.epochs={EPOCHS}"],
    )
    return {name: Command(one, own) for name, one in zip(OURS, words, strict=True)}


def _others(folder: Path, environments: Path, missing: Container[str]) -> dict[str, Command]:
    """The commands of the tools that are there, each in a small project."""
    places = {tool: folder / tool for tool in PEERS.values() if tool not in missing}
    for tool, place in places.items():
        place.mkdir(exist_ok=True)
        if make := PROJECTS.get(tool):
            make(place)
    programs = {tool: environments / tool / "bin" for tool in places}
    grid = ["dora", "-P", "app", "grid", "table", "--dry_run"]
    words = {
        IMPORT: ["python", "-c", IMPORT],
        "hydra: app.py --cfg job": ["python", "app.py", "--cfg", "job"],
        "dora --help": ["dora", "--help"],
        "dora grid --dry_run, 36 runs": [*grid, "--no_monitoring", "--init", "--no_git_save"],
        "snakemake -n, 36 jobs": ["snakemake", "-n"],
        "dvc --help": ["dvc", "--help"],
        "dvc status, 36 stages": ["dvc", "status"],
    }
    if "dvc" in places:
        init = [str(programs["dvc"] / "dvc"), "init", "--quiet", "--no-scm"]
        subprocess.run(init, cwd=places["dvc"], check=True, capture_output=True, timeout=LIMIT_S)
    return {
        name: Command([str(programs[tool] / words[name][0]), *words[name][1:]], places[tool])
        for name, tool in PEERS.items()
        if tool in places
    }
