"""Small run directories, written as training writes them but with numbers and times that a test chooses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from antioversmooth import files, journal, spec
from antioversmooth.config import Table
from antioversmooth.runs import Run
from antioversmooth.spec import Request

NOON = 1_700_000_000.0
"""Start of every fabricated attempt, in seconds since 1970."""

TABLE = """\
title: Scalings, 50 % off & more
caption: Top-1 accuracy in percent after the last epoch.
rows:
  - {experiment: deit_s12, label: DeiT-S, group: "DeiT-S, 12 layers",
     paper: {top1: 79.8, source: "GFSA, arXiv 2312.04234", confidence: Q}}
  - {experiment: deit_s12_featscale, label: "DeiT-S + FeatScale <b>|$x_1$", group: "DeiT-S, 12 layers",
     baseline: deit_s12, paper: {top1: 80.9, source: "GFSA, arXiv 2312.04234", confidence: Q}}
  - {experiment: swin_s, label: Swin-S, group: Swin-S,
     paper: {top1: 82.9, source: "from memory, not verified", confidence: M}}
  - {label: ResNet-152, group: quoted, paper: {top1: 78.1, source: "GFSA, arXiv 2312.04234", confidence: Q}}
"""


class Lab:
    """A project with one small table, and the hands to fabricate its runs."""

    def __init__(self, root: Path, shipped: Path) -> None:
        self.root, self.results = root, root / "results"
        (root / "experiments").symlink_to(shipped)
        tables = root / "extra" / "tables"
        tables.mkdir(parents=True)
        for item in shipped.iterdir():
            if item.name != "tables":
                (root / "extra" / item.name).symlink_to(item)
        self.table_path = tables / "small.yaml"
        self.table_path.write_text(TABLE)

    def request(self, *overrides: str, profile: str = "mini") -> Request:
        return spec.load([self.table_path], [f"profile={profile}", *overrides])

    def table(self) -> Table:
        return spec.load_table(self.table_path)

    def run(self, name: str, seed: int = 0, *overrides: str, profile: str = "mini") -> Run:
        """The prepared run of a row; nothing has started."""
        request = self.request(*overrides, profile=profile)
        run = next(r for r in request.plan([seed], self.results) if r.experiment.name == name)
        run.prepare()
        return run

    def start(self, run: Run, *, epochs: int, attempt: int = 1, step: int = 0, snapshot: str = "5a5a5a5a5a5a") -> None:
        """An attempt that starts after `step` and finishes so many epochs; it does not end."""
        intent = {"id": run.id, "time": NOON, "backend": "local", "dirty": False, "snapshot": snapshot}
        files.write_json(run.dir / "intent.json", intent)
        start = {"time": NOON, "attempt": attempt, "event": "start", "step": step, "host": "node7", "job_id": "4711"}
        journal.append(run.attempts_path, {**start, "commit": "c0ffee", "snapshot": snapshot})
        files.write_json(
            run.dir / "provenance.json", {"python": "3.11.7", "packages": {"torch": "2.14.1", "timm": "1.0.31"}}
        )
        steps = run.experiment.steps_per_epoch
        for epoch in range(step // steps + 1, epochs + 1):
            now = {"time": NOON + 10 * epoch, "attempt": attempt, "step": epoch * steps, "epoch": epoch}
            journal.append(run.metrics_path, {**now, journal.TRAIN_LOSS: 2.0 / epoch, journal.TRAIN_LR: 1e-3})
            journal.append(run.metrics_path, {**now, journal.VAL_TOP1: 50.0 + epoch, journal.EPOCH_SECONDS: 10.0})

    def end(self, run: Run, reason: str, *, attempt: int = 1, message: str = "") -> None:
        record = {"time": NOON + 500, "attempt": attempt, "event": "end", "reason": reason, "message": message}
        journal.append(run.attempts_path, record)

    def finish(self, run: Run, top1: float, **changes: Any) -> Run:
        """A run that is done with this accuracy."""
        epochs = run.experiment.recipe.epochs
        if not run.attempts_path.exists():
            self.start(run, epochs=epochs)
        self.end(run, "completed")
        depth = run.experiment.model.depth
        similarity = [round(0.1 + 0.5 * layer / depth, 4) for layer in range(1, depth + 1)]
        for layer, value in enumerate(similarity, start=1):
            record = {"time": NOON + 450, "attempt": 1, "step": run.experiment.total_steps, "layer": layer}
            journal.append(run.metrics_path, {**record, journal.TOKEN_SIMILARITY: value})
        data = run.experiment.data
        result = {
            "id": run.id,
            "experiment": run.experiment.name,
            "seed": run.seed,
            "metrics": {"val/top1": top1, "val/top5": 99.5, "val/loss": 0.3},
            "best": {"val/top1": top1 + 0.5, "epoch": epochs - 1},
            "start": None,
            "epochs": epochs,
            "steps": run.experiment.total_steps,
            "parameters": 604_298,
            "gmacs": 0.01134,
            "images_per_s": 612.5,
            "device": "Intel & Sons",
            "world_size": 1,
            "seconds": 52.0,
            "device_hours": 0.0144,
            "attempts": 1,
            "checkpoint": {"file": "checkpoints/last.pt", "sha256": "ab" * 32},
            "similarity": {"tokens": similarity},
            "data": {"name": data.name, "num_train": data.num_train, "num_val": data.num_val, "fingerprint": "f00d"},
            "finished": NOON + 500,
        }
        files.write_json(run.dir / "result.json", {**result, **changes})
        return run


@pytest.fixture
def lab(tmp_path: Path, experiments: Path) -> Lab:
    return Lab(tmp_path, experiments)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compares text with a file under golden/, byte for byte; `--golden-write`... is not offered: edit with intent."""

    def compare(name: str, text: str) -> None:
        path = Path(__file__).parent / "golden" / name
        assert text == path.read_text()

    return compare
