"""Utilisation of the machine in the journal of a run."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import psutil
import pytest

from antioversmooth.runs import Run
from antioversmooth.runs.journal import Record
from antioversmooth.runs.metrics import SYSTEM, TRAIN_LOSS, VAL_LOSS
from antioversmooth.training.run import system
from antioversmooth.training.train import train

MakeRun = Callable[..., Run]


def samples(run: Run) -> list[Record]:
    return [record for record in run.metrics() if any(key.startswith(SYSTEM) for key in record)]


def test_cpu_and_memory_of_the_machine_have_mlflows_names_and_units() -> None:
    found = system.sample_system(gpus=0)
    assert found.keys() == {
        "system/cpu_utilization_percentage",
        "system/system_memory_usage_megabytes",
        "system/system_memory_usage_percentage",
    }
    total = psutil.virtual_memory().total / 1e6
    assert 0 < found["system/system_memory_usage_megabytes"] < total
    assert 0 <= found["system/cpu_utilization_percentage"] <= 100


def test_a_run_journals_samples_with_its_steps_and_times(tiny_run: MakeRun) -> None:
    run = tiny_run("runtime.system_every_s=0.01")
    train(run)
    taken = samples(run)
    assert len(taken) > 1
    steps = [record["step"] for record in taken]
    assert steps == sorted(steps)
    assert 0 <= steps[0] <= steps[-1] <= run.experiment.total_steps
    assert taken[-1]["epoch"] == pytest.approx(steps[-1] / run.experiment.steps_per_epoch)
    assert all(later["time"] >= earlier["time"] for earlier, later in pairwise(taken))


def science(run: Run) -> list[tuple[Any, ...]]:
    return [(r["step"], r.get("layer"), r.get(TRAIN_LOSS), r.get(VAL_LOSS)) for r in run.metrics()]


def test_system_metrics_do_not_change_a_result(tiny_run: MakeRun) -> None:
    watched, alone = (
        tiny_run("runtime.system_every_s=0.01"),
        tiny_run("runtime.system_every_s=0", seed=0),
    )
    assert watched.id == alone.id
    train(watched)
    with_samples = [found for found in science(watched) if found[1:] != (None, None, None)]
    for path in [watched.dir / "result.json", watched.metrics_path, watched.attempts_path]:
        path.unlink()
    for path in watched.checkpoints_dir.iterdir():
        path.unlink()
    train(alone)
    assert not samples(alone)
    assert [found for found in science(alone) if found[1:] != (None, None, None)] == with_samples
