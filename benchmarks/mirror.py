"""How long MLflow takes to hold what many runs have journaled: `python -m benchmarks.mirror`.

The runs are made for this: real run directories of the mini profile whose journals hold as many
numbers as asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from antioversmooth import spec
from antioversmooth.project import find_root
from antioversmooth.runs import Run, journal
from antioversmooth.runs.metrics import (
    IMAGES_PER_SECOND,
    TRAIN_LOSS,
    TRAIN_LR,
    VAL_LOSS,
    VAL_TOP1,
    VAL_TOP5,
)
from benchmarks.timing import Times

ROWS = ("deit_s12", "deit_s12_attnscale", "deit_s12_featscale", "deit_s24")
FIRST, AGAIN = "MLflow, first sync", "MLflow, sync with nothing to do"
PER_EPOCH = 6
"""Numbers that an epoch journals here: three of training, three of validation."""
EPOCH_S = 60.0
START = 1_700_000_000.0


@dataclass(frozen=True)
class Load:
    """What is mirrored."""

    runs: int = 200
    metrics: int = 600
    """Numbers in the journal of each run."""


LOAD, QUICK_LOAD = Load(), Load(4, 12)


def mirror_times(project: Path, load: Load) -> Times:
    """Seconds, of CPU and by the clock, of a first sync into a new SQLite file and of one that
    finds nothing to do.

    Each is a process of its own, as `antioversmooth sync` is, and imports MLflow first.
    """
    times: Times = {}
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder)
        _fabricate(project, results, load)
        for name in (FIRST, AGAIN):
            cpu, wall = _sync(results)
            times |= {f"{name}, CPU": [cpu], name: [wall]}
    return times


def _fabricate(project: Path, results: Path, load: Load) -> None:
    paths = [project / "experiments" / f"{name}.yaml" for name in ROWS]
    epochs = load.metrics // PER_EPOCH
    request = spec.load(paths, ["profile=mini", f"recipe.epochs={epochs}"])
    for run in request.plan(range(load.runs // len(ROWS)), results):
        run.prepare()
        start = {"time": START, "attempt": 1, "event": "start", "step": 0, "host": "bench"}
        journal.append(run.attempts_path, start)
        run.metrics_path.write_text(
            "".join(f"{json.dumps(record)}\n" for record in _journal(run, epochs))
        )
        end = {
            "time": START + EPOCH_S * epochs,
            "attempt": 1,
            "event": "end",
            "reason": "preempted",
        }
        journal.append(run.attempts_path, end)


def _journal(run: Run, epochs: int) -> list[journal.Record]:
    records: list[journal.Record] = []
    for epoch in range(1, epochs + 1):
        now = {
            "time": START + EPOCH_S * epoch,
            "attempt": 1,
            "step": epoch * run.experiment.steps_per_epoch,
        }
        now["epoch"] = epoch
        loss, top1 = 2.3 / epoch + run.seed / 1000, 90 - 50 / epoch + run.seed / 1000
        train = {
            TRAIN_LOSS: loss,
            TRAIN_LR: 1e-3 / epoch,
            IMAGES_PER_SECOND: 800 + loss,
        }
        val = {VAL_TOP1: top1, VAL_TOP5: 99.0, VAL_LOSS: loss}
        records += [{**now, **train}, {**now, **val}]
    return records


def _sync(results: Path) -> tuple[float, float]:
    program = (
        "from pathlib import Path; import sys; from antioversmooth.reporting.tracking import ui; from"
        " antioversmooth.reporting.discover import Discovery;"
        " ui.sync_all(Discovery(Path(sys.argv[1])), [])"
    )
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    start, before = time.perf_counter(), os.times()
    subprocess.run([sys.executable, "-c", program, str(results)], check=True, env=environment)
    after = os.times()
    cpu = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    return cpu, time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the times as JSON; 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mirror", description=__doc__)
    parser.add_argument(
        "--runs", type=int, default=Load.runs, metavar="N", help=f"default: {Load.runs}"
    )
    parser.add_argument(
        "--metrics", type=int, default=Load.metrics, metavar="N", help=f"default: {Load.metrics}"
    )
    given = parser.parse_args(arguments)
    print(json.dumps(mirror_times(find_root(), Load(given.runs, given.metrics)), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
