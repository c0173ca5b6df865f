"""Time that a run spends beside its steps: the start of its process, and the copy of its state at
a checkpoint."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import timm
import torch

from antioversmooth import spec
from antioversmooth.runs import Run, journal
from antioversmooth.runs.metrics import TRAIN_LOSS
from antioversmooth.training.run.checkpoint import CheckpointWriter
from benchmarks.timing import Times, time_process

IMPORTS = ("import torch", "import torch, torchvision", "import timm")


def first_steps(project: Path, *, rounds: int) -> Times:
    """Seconds, of CPU and by the clock, from the start of a process to the end of its first step.

    Of the mini profile; beside them the CPU seconds of its imports, each in a process of its own.
    """
    times: Times = {name: [] for name in (*IMPORTS, "first step", "first step, wall")}
    for number in range(rounds):
        for statement in IMPORTS:
            times[statement].append(time_process([sys.executable, "-c", statement])[0])
        with tempfile.TemporaryDirectory() as folder:
            run = _prepared(project, Path(folder), seed=number)
            started = time.time()
            command = [sys.executable, "-m", "antioversmooth.training", str(run.dir)]
            # the exit code of a run that ends before its last step
            times["first step"].append(time_process(command, exit_code=os.EX_TEMPFAIL)[0])
            times["first step, wall"].append(_first_record(run) - started)
    return times


def _prepared(project: Path, results: Path, *, seed: int) -> Run:
    """A run that ends after a step."""
    overrides = ["profile=mini", "runtime.max_steps=1", "runtime.log_every=1"]
    request = spec.load([project / "experiments" / "deit_s12.yaml"], overrides)
    (run,) = request.plan([seed], results)
    run.prepare()
    return run


def _first_record(run: Run) -> float:
    (first, *_) = (record for record in journal.read(run.metrics_path) if TRAIN_LOSS in record)
    return float(first["time"])


def checkpoint_stall(project: Path, tag: str, *, rounds: int) -> Times:
    """Seconds by the clock that a checkpoint holds up training, and until it is written.

    Args:
        tag: timm's name of the model, whose weights, average and both of AdamW's moments are saved.
    """
    state = _state(timm.create_model(tag).state_dict())
    times: Times = {"training waits": [], "written after": []}
    with tempfile.TemporaryDirectory() as folder:
        run = _prepared(project, Path(folder), seed=0)
        writer = CheckpointWriter(run, 0, is_superseded=lambda: False)
        for step in range(rounds):
            start = time.perf_counter()
            writer.save(state, step=step, best_step=None)
            times["training waits"].append(time.perf_counter() - start)
            writer.wait()
            times["written after"].append(time.perf_counter() - start)
        writer.close()
    return times


def _state(weights: dict[str, Any]) -> dict[str, Any]:
    """A state of the size of a run's."""
    moments = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    return {"model": weights, "ema": weights, "optimizer": {"first": moments, "second": moments}}
