"""Fabricated run directories: written as training writes them, with numbers chosen by a test."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from antioversmooth import files, spec
from antioversmooth.config import Table
from antioversmooth.datasets.current import CurrentData
from antioversmooth.reporting.table import document
from antioversmooth.reporting.table.aggregate import RowResult, aggregate
from antioversmooth.reporting.table.document import Document
from antioversmooth.reporting.table.observe import Observation, observe
from antioversmooth.runs import Run, journal
from antioversmooth.runs.metrics import (
    EPOCH_SECONDS,
    IMAGES_PER_SECOND,
    TOKEN_SIMILARITY,
    TRAIN_LOSS,
    TRAIN_LR,
    VAL_LOSS,
    VAL_TOP1,
    VAL_TOP5,
)
from antioversmooth.runs.result import outcome
from antioversmooth.spec import Request

NOON = 1_700_000_000.0
"""Start of every fabricated attempt, in seconds since 1970."""

TABLE = """\
title: Scalings, 50 % off & more
caption: Top-1 accuracy in percent after the last epoch.
rows:
  - {experiment: deep, label: Deep, group: "Deep_24, #layers",
     paper: {top1: 79.8, source: A & B, confidence: Q}}
  - {experiment: deep_featscale, label: "Deep + FeatScale <b>|$x_1$*^~{}",
     group: "Deep_24, #layers", baseline: deep, paper: {top1: 80.9, source: A & B, confidence: Q}}
  - {experiment: wide, label: Wide, group: Wide,
     paper: {top1: 82.9, source: from memory, confidence: M, setting: "dropout 0.2 & no EMA",
             epochs: 300}}
  - {label: ResNet-152, group: quoted, paper: {top1: 78.1, source: A & B, confidence: Q}}
"""

ROW = """\
defaults: [schema, _self_]
title: Row NAME
profile: mini
model: {family: vit, depth: 24, embed_dim: WIDTH, num_heads: 2, image_size: 8, patch_size: 2,
        method: SCALING}
data: {name: Digits, source: digits, num_classes: 10, num_train: 800, num_val: 1000}
recipe: {epochs: 4, global_batch: 100, base_lr: 0.001, warmup_epochs: 1, mix_prob: 0}
cluster: {name: here}
"""

LIKE_THE_PAPER = (
    "profile=imagenet",
    "data.name=ImageNet-1k",
    "data.num_classes=1000",
    "data.num_train=1281167",
    "data.num_val=50000",
)
"""Overrides under which numbers may be compared with the paper's."""


FORGERIES: dict[str, Callable[[Any], object]] = {
    "parameters": lambda result: result.update(parameters=result["parameters"] + 1),
    "gmacs": lambda result: result.update(gmacs=1e-6),
    "device_hours": lambda result: result.update(device_hours=1000 * result["device_hours"]),
    "seconds": lambda result: result.update(seconds=5200.0),
    "similarity.tokens": lambda result: result["similarity"]["tokens"].reverse(),
    "epochs": lambda result: result.update(epochs=300),
    "steps": lambda result: result.update(steps=33),
    "images_per_s": lambda result: result.update(images_per_s=6125.0),
    "metrics.val/top5": lambda result: result["metrics"].update({"val/top5": 100.0}),
    "metrics.val/loss": lambda result: result["metrics"].update({"val/loss": 0.01}),
    "metrics.ema/top1": lambda result: result["metrics"].update({"ema/top1": 99.0}),
    "best.epoch": lambda result: result["best"].update(epoch=0),
    "best.val/top1": lambda result: result["best"].update({"val/top1": 99.0}),
    "start": lambda result: result.update(start={"val/top1": 10.0}),
    "data.name": lambda result: result["data"].update(name="ImageNet-1k"),
    "data.num_val": lambda result: result["data"].update(num_val=50_000),
    "data.fingerprint": lambda result: result["data"].update(fingerprint="beef"),
    "seed": lambda result: result.update(seed=5),
    "experiment": lambda result: result.update(experiment="deep"),
    "world_size": lambda result: result.update(world_size=2),
    "device": lambda result: result.update(device="H100"),
    "attempts": lambda result: result.update(attempts=3),
    "finished": lambda result: result.update(finished=0.0),
    "checkpoint.file": lambda result: result["checkpoint"].update(file="step00000008-attempt1.pt"),
}
"""Edits of a result, each of one value, which is named by its path."""


_composed: dict[tuple[object, ...], Request] = {}
"""By the overrides and the texts of all specs."""


_measured: dict[tuple[int, str, int], tuple[int, float]] = {}
"""By width, scaling and number of classes."""


def measured(run: Run) -> tuple[int, float]:
    """Parameters and GMACs of the model of a run."""
    model = run.experiment.model
    key = model.embed_dim, model.method, run.experiment.data.num_classes
    if key not in _measured:
        # imports torch
        from antioversmooth.models.measure import measure_spec

        _measured[key] = measure_spec(run.experiment)
    return _measured[key]


def fingerprint(run: Run) -> str:
    """That of the data as it is, so that no table calls the run outdated; any where it is not."""
    return str((CurrentData().facts(run.experiment.data) or {}).get("fingerprint", "f00d"))


class Lab:
    """A project with one small table, and methods that fabricate its runs."""

    def __init__(self, root: Path) -> None:
        self.root, self.results = root, root / "results"
        tables = root / "experiments" / "tables"
        tables.mkdir(parents=True)
        self.table_path = tables / "small.yaml"
        self.table_path.write_text(TABLE)
        self.add_row("deep")
        self.add_row("deep_featscale", scaling="featscale")
        self.add_row("wide", width=16)

    def add_row(self, name: str, *, width: int = 8, scaling: str = "none") -> None:
        spec = ROW.replace("NAME", name).replace("WIDTH", str(width)).replace("SCALING", scaling)
        (self.root / "experiments" / f"{name}.yaml").write_text(spec)

    def request(self, *overrides: str) -> Request:
        """The table's request; composed once for all tests, since it takes most of a second."""
        folder = self.root / "experiments"
        specs = ((path.name, path.read_text()) for path in sorted(folder.rglob("*.yaml")))
        key = (overrides, *specs)
        if key not in _composed:
            _composed[key] = spec.load([self.table_path], overrides)
        return replace(_composed[key], folder=folder)

    def table(self) -> Table:
        return spec.load_table(self.table_path)

    def run(self, name: str, seed: int = 0, *overrides: str) -> Run:
        """The prepared run of a row; nothing has started."""
        planned = self.request(*overrides).plan([seed], self.results)
        run = next(r for r in planned if r.experiment.name == name)
        run.prepare()
        return run

    def observe(self, *seeds: int) -> list[Observation]:
        """All rows with these seeds, as they are now."""
        return [observe(run) for run in self.request().plan(seeds or (0,), self.results)]

    def rows(self, *seeds: int) -> dict[str | None, RowResult]:
        """The results of all rows with these seeds, by experiment."""
        observed: dict[str, list[Observation]] = {}
        for seen in self.observe(*seeds):
            observed.setdefault(seen.run.experiment.name, []).append(seen)
        return {row.row.experiment: row for row in aggregate(self.table(), observed)}

    def collect(self, *seeds: int, overrides: Sequence[str] = ()) -> Document:
        """The table as it is now."""
        return document.collect(self.table(), self.request(*overrides), seeds or (0,), self.results)

    def fill(self) -> None:
        """Two rows done with two seeds each; the third preempted after the first epoch."""
        for seed, (plain, scaled) in enumerate([(90.1, 91.4), (90.6, 92.3)]):
            self.finish(self.run("deep", seed), plain)
            self.finish(self.run("deep_featscale", seed), scaled)
        wide = self.run("wide")
        self.start(wide, epochs=1)
        self.end(wide, "preempted")

    def start(
        self,
        run: Run,
        *,
        epochs: int,
        attempt: int = 1,
        step: int = 0,
        snapshot: str = "5a5a5a5a5a5a",
        dirty: bool = False,
        **facts: Any,
    ) -> None:
        """An attempt that starts after `step` and finishes so many epochs; it does not end.

        Args:
            dirty: Whether its code differs from its commit.
            facts: Of its start record, such as the versions of its packages.
        """
        code = {"commit": "c0ffee", "snapshot": snapshot}
        intent = {"id": run.id, "time": NOON, "backend": "local", "dirty": dirty, **code}
        if (run.dir / "spec.yaml").exists():
            intent["spec"] = files.sha256(run.dir / "spec.yaml")
        journal.append(run.dir / "intents.jsonl", intent)
        files.write_json(run.dir / "intent.json", intent)
        start = {"time": NOON, "attempt": attempt, "event": "start", "step": step}
        here = {"host": "node7", "job_id": "4711", **code, **facts}
        journal.append(run.attempts_path, {**start, **here})
        packages = {"click": "8.3.1", "torch": "2.14.1", "timm": "1.0.31"}
        found = {"python": "3.11.7", "packages": packages, **here, "attempt": attempt}
        files.write_json(run.dir / "provenance.json", found)
        first = step // run.experiment.steps_per_epoch + 1
        self.grow(run, range(first, epochs + 1), attempt=attempt)

    def grow(self, run: Run, epochs: range, *, attempt: int = 1) -> None:
        """Journals these epochs."""
        for epoch in epochs:
            self._end_epoch(run, epoch, 50.0 + min(epoch, 50), attempt)

    def _end_epoch(self, run: Run, epoch: int, top1: float, attempt: int, **more: float) -> None:
        step = epoch * run.experiment.steps_per_epoch
        now = {"time": NOON + 10 * epoch, "attempt": attempt, "step": step, "epoch": epoch}
        journal.append(run.metrics_path, {**now, TRAIN_LOSS: 2.0 / epoch, TRAIN_LR: 1e-3})
        journal.append(run.metrics_path, {**now, VAL_TOP1: top1, **more, EPOCH_SECONDS: 10.0})

    def finish_honestly(self, run: Run, top1: float) -> Run:
        """A run that is done with this accuracy, with its checkpoint, and the size of its model."""
        weights = f"weights of {run.id}".encode()
        name = f"step{run.experiment.total_steps:08d}-attempt1.pt"
        checksum = hashlib.sha256(weights).hexdigest()
        (run.checkpoints_dir / name).write_bytes(weights)
        (run.checkpoints_dir / f"{name}.sha256").write_text(f"{checksum}  {name}\n")
        size = dict(zip(("parameters", "gmacs"), measured(run), strict=True))
        if not run.attempts_path.exists():
            self.start_best(run, top1, device="Intel & Sons", world_size=1)
        provenance = run.dir / "provenance.json"
        data = {"name": run.experiment.data.name, "fingerprint": fingerprint(run)}
        files.write_json(provenance, {**files.read_json(provenance), "data": data})
        return self.finish(run, top1, checkpoint={"file": name, "sha256": checksum}, **size)

    def start_best(self, run: Run, top1: float, **facts: Any) -> None:
        """An attempt that is half a point better than `top1` after the last epoch but one."""
        epochs = run.experiment.recipe.epochs
        self.start(run, epochs=epochs - 2, **facts)
        if epochs > 1:
            self._end_epoch(run, epochs - 1, top1 + 0.5, 1)

    def fill_honestly(self) -> None:
        """Every row done with two seeds, with consistent results."""
        for seed, scores in enumerate([(90.1, 91.4, 93.0), (90.6, 92.3, 93.2)]):
            for name, top1 in zip(("deep", "deep_featscale", "wide"), scores, strict=True):
                self.finish_honestly(self.run(name, seed), top1)

    def end(self, run: Run, reason: str, *, attempt: int = 1, message: str = "") -> None:
        end = {"time": NOON + 500, "attempt": attempt, "event": "end"}
        journal.append(run.attempts_path, {**end, "reason": reason, "message": message})

    def finish(self, run: Run, top1: float, **changes: Any) -> Run:
        """A run that is done with this accuracy."""
        epochs = run.experiment.recipe.epochs
        if not run.attempts_path.exists():
            self.start_best(run, top1)
        attempt = run.attempts()[-1].number
        scores = {VAL_TOP5: 99.5, VAL_LOSS: 0.3, IMAGES_PER_SECOND: 612.5}
        self._end_epoch(run, epochs, top1, attempt, **scores)
        self.end(run, "completed", attempt=attempt)
        depth = run.experiment.model.depth
        similarity = [round(0.1 + 0.5 * layer / depth, 4) for layer in range(1, depth + 1)]
        for layer, value in enumerate(similarity, start=1):
            now = {
                "time": NOON + 10 * epochs + 1,
                "attempt": attempt,
                "step": run.experiment.total_steps,
            }
            journal.append(run.metrics_path, {**now, "layer": layer, TOKEN_SIMILARITY: value})
        name = f"step{run.experiment.total_steps:08d}-attempt{attempt}.pt"
        data = run.experiment.data
        images = {"name": data.name, "num_train": data.num_train, "num_val": data.num_val}
        result = {
            "id": run.id,
            "experiment": run.experiment.name,
            "seed": run.seed,
            **outcome(run.metrics(), run.experiment),
            "epochs": epochs,
            "steps": run.experiment.total_steps,
            "parameters": 604_298,
            "gmacs": 0.01134,
            "device": "Intel & Sons",
            "world_size": 1,
            "seconds": 52.0,
            "device_hours": 0.0144,
            "attempts": len(run.attempts()),
            "checkpoint": {"file": name, "sha256": "ab" * 32},
            "similarity": {"tokens": similarity},
            "data": {**images, "fingerprint": fingerprint(run)},
            "finished": NOON + 500,
        }
        files.write_json(run.dir / "result.json", {**result, **changes})
        return run
