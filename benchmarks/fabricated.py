"""Fabricated projects and run directories: what training would leave behind, without training."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from antioversmooth import files, spec
from antioversmooth.runs import Run, journal
from antioversmooth.runs.metrics import (
    EPOCH_SECONDS,
    IMAGES_PER_SECOND,
    TOKEN_SIMILARITY,
    TRAIN_GRAD_NORM,
    TRAIN_LOSS,
    TRAIN_LR,
    VAL_LOSS,
    VAL_TOP1,
    VAL_TOP5,
)

START = 1_700_000_000.0
"""Time of the first record, in seconds since 1970."""
EPOCH_S = 60.0
SPEED = 900.0
"""Images per second."""
SIMILARITIES = [0.5] * 24
"""Of the tokens after each block."""


@contextmanager
def empty_project(project: Path) -> Iterator[Path]:
    """A temporary folder with the specs of a project and no results."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "experiments").symlink_to((project / "experiments").resolve())
        yield Path(folder)


def overrides(epochs: int) -> list[str]:
    """The overrides that fabricated runs are planned with."""
    return ["profile=mini", f"recipe.epochs={epochs}"]


def plan_runs(project: Path, names: Iterable[str], seeds: Sequence[int], epochs: int) -> list[Run]:
    """Runs of rows or tables, by their names below `experiments/`."""
    paths = [project / "experiments" / f"{name}.yaml" for name in names]
    return spec.load(paths, overrides(epochs)).plan(seeds, project / "results")


def write_run(run: Run, records: Iterable[journal.Record], *, epochs: int, reason: str) -> None:
    """Writes an attempt of a prepared run: its start, its journal and its end.

    Args:
        reason: Why the attempt ended.
    """
    attempt = {"time": START, "attempt": 1}
    start = {**attempt, "event": "start", "step": 0, "host": "node7", "commit": "c0ffee"}
    end = {**attempt, "time": START + EPOCH_S * epochs, "event": "end", "reason": reason}
    run.attempts_path.write_text(_lines([start, end]))
    run.metrics_path.write_text(_lines(records))


def write_done_run(run: Run, epochs: int) -> None:
    """Writes a run that is done, with five records of training and one of validation an epoch."""
    run.dir.mkdir(parents=True)
    trained = [record for epoch in range(1, epochs + 1) for record in _epoch(run, epoch)]
    layers = enumerate(SIMILARITIES, start=1)
    at_end = [{**epoch_facts(run, epochs), "layer": n, TOKEN_SIMILARITY: s} for n, s in layers]
    write_run(run, [*trained, *at_end], epochs=epochs, reason="completed")
    best = max(range(1, epochs + 1), key=lambda epoch: _top1(run, epoch))
    result = {
        "id": run.id,
        "metrics": {VAL_TOP1: _top1(run, epochs), VAL_TOP5: 90.0, VAL_LOSS: 1.0 + 1 / epochs},
        "best": {VAL_TOP1: _top1(run, best), "epoch": best},
        "parameters": 22_050_664,
        "gmacs": 4.6,
        "images_per_s": SPEED,
        "device": "A GPU",
        "device_hours": EPOCH_S * epochs / 3600,
        "checkpoint": {
            "file": f"step{run.experiment.total_steps:08d}-attempt1.pt",
            "sha256": "0" * 64,
        },
        "similarity": {"tokens": SIMILARITIES},
        "start": None,
    }
    packages = {"torch": "2.14.1", "timm": "1.0.31"}
    files.write_json(run.dir / "result.json", result)
    files.write_json(run.dir / "intent.json", {"backend": "slurm", "dirty": False})
    files.write_json(run.dir / "provenance.json", {"python": "3.11.7", "packages": packages})


def write_begun_run(run: Run, epochs: int, *, job_id: str, is_running: bool) -> None:
    """Writes a run with a job on SLURM that waits, or that has trained half of its epochs."""
    run.prepare()
    files.write_json(run.dir / "intent.json", {"id": run.id, "backend": "slurm", "dirty": False})
    submitted = {"time": START, "event": "submitted", "job_id": job_id}
    run.jobs_path.write_text(_lines([submitted]))
    if is_running:
        start = {"time": time.time(), "attempt": 1, "event": "start", "step": 0, "job_id": job_id}
        run.attempts_path.write_text(_lines([start]))
        half = range(1, epochs // 2 + 1)
        run.metrics_path.write_text(_lines(r for epoch in half for r in _epoch(run, epoch)))
        # a sign of life that lasts as long as the measurement
        (run.dir / "heartbeat").touch()
        os.utime(run.dir / "heartbeat", times=(time.time() + 3600,) * 2)


def epoch_facts(run: Run, epoch: int) -> journal.Record:
    """Time, step and epoch, which every record of an epoch begins with."""
    step = epoch * run.experiment.steps_per_epoch
    return {"time": START + EPOCH_S * epoch, "attempt": 1, "step": step, "epoch": epoch}


def _epoch(run: Run, epoch: int) -> Iterator[journal.Record]:
    facts = epoch_facts(run, epoch)
    training = {TRAIN_LOSS: 2.0 / epoch, TRAIN_LR: 1e-3, TRAIN_GRAD_NORM: 1.0}
    training |= {IMAGES_PER_SECOND: SPEED}
    validation = {VAL_TOP1: _top1(run, epoch), VAL_TOP5: 90.0, VAL_LOSS: 1.0 + 1 / epoch}
    yield from [{**facts, **training}] * 5
    yield {**facts, **validation, EPOCH_SECONDS: EPOCH_S}


def _top1(run: Run, epoch: int) -> float:
    """Percent: of a whole number of images, as those of a real run are."""
    images = run.experiment.data.num_val
    return round(images * (0.7 + run.seed % 7 / 1000 - 0.2 / epoch)) / images * 100


def _lines(records: Iterable[journal.Record]) -> str:
    return "".join(f"{json.dumps(record)}\n" for record in records)
