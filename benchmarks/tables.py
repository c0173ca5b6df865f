"""How long a table takes: `python -m benchmarks.tables` makes a thousand runs of 300 epochs and
renders them.

What is timed is what a person waits for: the process of `antioversmooth table`, from its start to
its end, in the project's own table with as many seeds as make so many runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from antioversmooth import files, spec
from antioversmooth.project import find_root
from antioversmooth.runs import Run
from antioversmooth.runs.metrics import (
    EPOCH_SECONDS,
    TRAIN_GRAD_NORM,
    TRAIN_LOSS,
    TRAIN_LR,
    VAL_LOSS,
    VAL_TOP1,
    VAL_TOP5,
)
from benchmarks.timing import Times

LIGHT = """
import sys
from antioversmooth import cli
code = cli.main(sys.argv[1:])
heavy = {"torch", "timm", "mlflow", "matplotlib", "pandas", "numpy"} & {name.split(".")[0] for name in sys.modules}
sys.exit(f"a table imported {heavy}" if heavy else code)
"""

RUNS_A_SEED = 12
"""Rows of table2."""


@dataclass(frozen=True)
class Load:
    """What is rendered."""

    seeds: int = 84
    """Of each of table2's twelve rows."""
    epochs: int = 300
    rounds: int = 3


LOAD, QUICK_LOAD = Load(), Load(1, 4, 1)


def table_times(project: Path, load: Load) -> Times:
    """Seconds of each `antioversmooth table`, by the clock and of CPU.

    Args:
        project: Holds `experiments/`.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "experiments").symlink_to((project / "experiments").resolve())
        fabricate(place, range(load.seeds), load.epochs)
        found = [render(place, load.seeds, load.epochs) for _ in range(load.rounds)]
    name = f"table of {RUNS_A_SEED * load.seeds:,} runs x {load.epochs} epochs"
    return {name: [wall for wall, _ in found], f"{name}, CPU": [cpu for _, cpu in found]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the times as JSON; 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description=__doc__)
    for name, default in dataclasses.asdict(Load()).items():
        parser.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"default: {default}"
        )
    given = parser.parse_args(arguments)
    print(json.dumps(table_times(find_root(), Load(**vars(given))), indent=2))
    return 0


def _overrides(epochs: int) -> list[str]:
    return ["profile=mini", f"recipe.epochs={epochs}"]


def fabricate(project: Path, seeds: Sequence[int], epochs: int) -> int:
    """Runs that are done, as training leaves them behind; returns how many."""
    request = spec.load([project / "experiments" / "tables" / "table2.yaml"], _overrides(epochs))
    planned = request.plan(seeds, project / "results")
    for run in planned:
        run.dir.mkdir(parents=True)
        _write(run, epochs)
    return len(planned)


def _write(run: Run, epochs: int) -> None:
    start = {
        "time": 1.7e9,
        "attempt": 1,
        "event": "start",
        "step": 0,
        "host": "node7",
        "commit": "c0ffee",
    }
    end = {"time": 1.7e9 + 60 * epochs, "attempt": 1, "event": "end", "reason": "completed"}
    run.attempts_path.write_text("".join(json.dumps(record) + "\n" for record in (start, end)))
    run.metrics_path.write_text(
        "".join(line for epoch in range(1, epochs + 1) for line in _epoch(run, epoch))
    )
    scores = {VAL_TOP1: _top1(run, epochs), VAL_TOP5: 90.0, VAL_LOSS: 1.0}
    measured = {
        "parameters": 22_050_664,
        "gmacs": 4.6,
        "images_per_s": 900.0,
        "device": "A GPU",
        "device_hours": 300.0,
    }
    origin = {
        "checkpoint": {"file": "x.pt", "sha256": "0" * 64},
        "similarity": {"tokens": [0.5] * 24},
        "start": None,
    }
    best = {"best": {VAL_TOP1: 71.0, "epoch": epochs - 1}}
    files.write_json(
        run.dir / "result.json", {"id": run.id, "metrics": scores, **best, **measured, **origin}
    )
    files.write_json(run.dir / "intent.json", {"backend": "slurm", "dirty": False})
    files.write_json(
        run.dir / "provenance.json",
        {"python": "3.11.7", "packages": {"torch": "2.14.1", "timm": "1.0.31"}},
    )


def _top1(run: Run, epoch: int) -> float:
    return 70.0 + run.seed % 7 / 10 - 20 / epoch


def _epoch(run: Run, epoch: int) -> list[str]:
    """The lines of one epoch: five of the training loss, one of the evaluation."""
    now = {
        "time": 1.7e9 + 60 * epoch,
        "attempt": 1,
        "step": epoch * run.experiment.steps_per_epoch,
        "epoch": epoch,
    }
    training = json.dumps(
        {
            **now,
            TRAIN_LOSS: 2.0 / epoch,
            TRAIN_LR: 1e-3,
            TRAIN_GRAD_NORM: 1.0,
        }
    )
    evaluation = {
        VAL_TOP1: _top1(run, epoch),
        VAL_TOP5: 90.0,
        VAL_LOSS: 1.0 + 1 / epoch,
    }
    return [
        *[training + "\n"] * 5,
        json.dumps({**now, **evaluation, EPOCH_SECONDS: 60.0}) + "\n",
    ]


def render(project: Path, num_seeds: int, epochs: int) -> tuple[float, float]:
    """Seconds of one `antioversmooth table`, by the clock and of CPU; it must import nothing
    heavy."""
    seeds = ",".join(map(str, range(num_seeds)))
    arguments = ["table", "table2", *_overrides(epochs), "--seeds", seeds, "--output", "tables"]
    began, before = time.perf_counter(), os.times()
    subprocess.run(
        [sys.executable, "-c", LIGHT, *arguments],
        cwd=project,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    after = os.times()
    cpu = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    return time.perf_counter() - began, cpu


if __name__ == "__main__":
    sys.exit(main())
