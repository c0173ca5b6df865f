"""Time of `antioversmooth sync` on many runs: `python -m benchmarks.mlflow_sync`.

The run directories are fabricated, of the mini profile, with as many numbers in their journals as
asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

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
from benchmarks.fabricated import empty_project, epoch_facts, overrides, plan_runs, write_run
from benchmarks.timing import Times, time_process

ROWS = ("deit_s12", "deit_s12_attnscale", "deit_s12_featscale", "deit_s24")
FIRST, AGAIN = "MLflow, first sync", "MLflow, sync with nothing to do"
PER_EPOCH = 6
"""Numbers that an epoch journals here: three of training, three of validation."""


@dataclass(frozen=True)
class SyncLoad:
    """Number and size of the mirrored runs."""

    runs: int = 200
    metrics: int = 600
    """Numbers in the journal of each run."""

    @property
    def epochs(self) -> int:
        return self.metrics // PER_EPOCH

    @property
    def seeds(self) -> range:
        return range(self.runs // len(ROWS))


LOAD, QUICK_LOAD = SyncLoad(), SyncLoad(4, 12)


def sync_times(project: Path, load: SyncLoad) -> Times:
    """Seconds, of CPU and by the clock, of a first sync into a new SQLite file and of a second one
    that finds nothing to do.

    Args:
        project: Holds `experiments/`.
    """
    times: Times = {}
    with empty_project(project) as folder:
        for run in plan_runs(folder, ROWS, load.seeds, load.epochs):
            run.prepare()
            write_run(run, _journal(run, load.epochs), epochs=load.epochs, reason="preempted")
        for name in (FIRST, AGAIN):
            cpu, wall = _time_sync(folder, load)
            times |= {f"{name}, CPU": [cpu], name: [wall]}
    return times


def _journal(run: Run, epochs: int) -> Iterator[journal.Record]:
    for epoch in range(1, epochs + 1):
        facts = epoch_facts(run, epoch)
        loss, top1 = 2.3 / epoch + run.seed / 1000, 90 - 50 / epoch + run.seed / 1000
        yield {**facts, TRAIN_LOSS: loss, TRAIN_LR: 1e-3 / epoch, IMAGES_PER_SECOND: 800 + loss}
        yield {**facts, VAL_TOP1: top1, VAL_TOP5: 99.0, VAL_LOSS: loss}


def _time_sync(project: Path, load: SyncLoad) -> tuple[float, float]:
    seeds = ",".join(map(str, load.seeds))
    options = [*overrides(load.epochs), "--seeds", seeds, "--no-models"]
    command = [sys.executable, "-m", "antioversmooth", "sync", *ROWS, *options]
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    return time_process(command, cwd=project, env=environment)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the times as JSON; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mlflow_sync", description=__doc__)
    for name, default in (("runs", LOAD.runs), ("metrics", LOAD.metrics)):
        parser.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"default: {default}"
        )
    args = parser.parse_args(arguments)
    print(json.dumps(sync_times(find_root(), SyncLoad(args.runs, args.metrics)), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
