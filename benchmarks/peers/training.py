"""Whole trainings as processes: this project's job, timm's script and DeiT's loop, in turns."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from antioversmooth import spec
from antioversmooth.runs import Run
from antioversmooth.runs.metrics import TRAIN_LOSS, VAL_TOP1
from benchmarks.peers import shares
from benchmarks.peers.process_tree import Watched, watch
from benchmarks.peers.task import EPOCH, STEP, Task
from benchmarks.peers.turns import Measurement, in_turns
from benchmarks.pipeline import SIDE, write_photographs

OURS, TIMM, DEIT = "ours", "timm's script", "DeiT's loop"
PEERS = {TIMM: "benchmarks.peers.timm_script", DEIT: "benchmarks.peers.deit_loop"}
TAG = "deit_tiny_patch16_224"
ROW = "deit_s12"
"""Its recipe is that of all of them, but in float32, without repeated augmentation, which timm has
only for several processes, and without noise in RandAugment's magnitude: it brings posterize to 0
bits, which timm 1.0.31 hands to Pillow, and Pillow 13 refuses."""
CLASSES, BATCH = 4, 32
PHOTOGRAPHS = 64
"""Different ones; files with the same content make up the number."""
LIMIT_S = 120.0
"""For one process."""
CASE_LIMIT_S, STARTS_LIMIT_S = 200.0, 80.0
"""For the rounds of a case, and for those of starts, which are fewer on a busy machine."""


@dataclass(frozen=True)
class Case:
    """A model, and how much it is trained."""

    name: str
    depth: int
    width: int
    train: int
    rounds: int
    side: int = SIDE
    patch: int = 16
    val: int = 32
    epochs: int = 3
    is_input_bound: bool = False

    @property
    def sizes(self) -> dict[str, Any]:
        """Arguments of timm's model."""
        return {
            "depth": self.depth,
            "embed_dim": self.width,
            "num_heads": 3,
            "img_size": self.side,
            "patch_size": self.patch,
        }


@dataclass(frozen=True)
class TrainingLoad:
    """Number and size of the trainings."""

    cases: tuple[Case, ...]
    starts: int
    """Rounds of processes that end after a step of the first case."""
    photographs: int = PHOTOGRAPHS


LOAD = TrainingLoad(
    (
        Case("1 layer of 48 channels", 1, 48, 480, 5, patch=32, is_input_bound=True),
        Case("2 layers of 192 channels", 2, 192, 256, 3),
    ),
    starts=5,
)
QUICK_LOAD = TrainingLoad(
    (Case("1 layer of 48 channels", 1, 48, 64, 1, side=32, epochs=2, is_input_bound=True),),
    starts=1,
    photographs=8,
)


def compare(project: Path, load: TrainingLoad) -> Iterator[dict[str, Any]]:
    """After each case, and after the starts, all measurements until then: of cases with the shares
    of ours, of starts, and the reasons of those that failed, which are then left out."""
    failed: dict[str, str] = {}
    found: dict[str, Any] = {"cases": {}, "starts": {}, "failed": failed}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photographs(_made(folder / "photographs"), load.photographs)
        for case in load.cases:
            programs = _Programs(project, folder, case)
            run: dict[str, Callable[[], Measurement]]
            run = {OURS: programs.our_epochs}
            run |= {peer: partial(programs.epochs, peer) for peer in PEERS}
            rounds = in_turns(run, case.rounds, failed, limit_s=CASE_LIMIT_S)
            shares = programs.shares(failed)
            found["cases"][case.name] = {**asdict(case), "rounds": rounds, "shares": shares}
            yield found
        programs = _Programs(project, folder, load.cases[0])
        run = {OURS: programs.our_start}
        run |= {peer: partial(programs.start, peer) for peer in PEERS}
        found["starts"] = in_turns(run, load.starts, failed, limit_s=STARTS_LIMIT_S)
        yield found


class _Programs:
    """Starts the programs of a case, each time in a folder of its own."""

    def __init__(self, project: Path, folder: Path, case: Case) -> None:
        self.project, self.folder, self.case = project, folder, case
        self.images = folder / f"images-{case.train}-{case.val}"
        if not self.images.exists():
            link_classes(folder / "photographs", self.images, case)
        self.started = 0
        self.recipe = self.planned(0).experiment.recipe

    def planned(self, seed: int, *overrides: str) -> Run:
        """Our run."""
        case = self.case
        given = [
            f"model.depth={case.depth}",
            f"model.embed_dim={case.width}",
            "model.num_heads=3",
            f"model.image_size={case.side}",
            f"model.patch_size={case.patch}",
            f"data.root={self.images}",
            f"data.num_classes={CLASSES}",
            f"data.num_train={case.train}",
            f"data.num_val={case.val}",
            f"recipe.epochs={case.epochs}",
            "recipe.warmup_epochs=0",
            f"recipe.global_batch={BATCH}",
            f"recipe.mix_group={BATCH}",
            "recipe.repeated_augmentation=1",
            "recipe.rand_augment=rand-m9-inc1",
            "recipe.precision=float32",
            "runtime.workers=1",
            f"runtime.eval_batch={BATCH}",
        ]
        request = spec.load([self.project / "experiments" / f"{ROW}.yaml"], [*given, *overrides])
        (run,) = request.plan([seed], self.folder / "results")
        return run

    def watched(self, *command: str, exit_code: int = 0) -> Watched:
        """Runs a Python process with one thread."""
        settings = {"OMP_NUM_THREADS": "1", "ANTIOVERSMOOTH_CACHE": str(self.folder / "cache")}
        return watch(
            [sys.executable, *command],
            cwd=self.project,
            env={**os.environ, **settings},
            log=self.folder / "log.txt",
            limit_s=LIMIT_S,
            exit_codes=[exit_code],
        )

    def new_seed(self) -> int:
        """A number for each process: each trains a run of its own."""
        self.started += 1
        return self.started

    def task(self, *, ends_at_first_step: bool) -> Task:
        """The same training for another program."""
        return Task(
            tag=TAG,
            sizes=self.case.sizes,
            images=str(self.images),
            classes=CLASSES,
            batch=BATCH,
            epochs=self.case.epochs,
            recipe=dict(_plain(self.recipe)),
            folder=tempfile.mkdtemp(dir=self.folder) + "/task",
            ends_at_first_step=ends_at_first_step,
        )

    def our_epochs(self) -> Measurement:
        """Trains as a job does."""
        run = self.planned(self.new_seed())
        run.prepare()
        watched = self.watched("-m", "antioversmooth.training", str(run.dir))
        return self.measured(watched, _record_times(run, VAL_TOP1))

    def epochs(self, peer: str) -> Measurement:
        """Trains with another program."""
        task = self.task(ends_at_first_step=False)
        watched = self.watched("-m", PEERS[peer], str(task.write()))
        return self.measured(watched, task.times(EPOCH))

    def measured(self, watched: Watched, ends: list[float]) -> Measurement:
        """The numbers of a training, from the end of its first epoch to that of its last."""
        cost = watched.cost(ends[0], ends[-1])
        images = self.case.train * (len(ends) - 1)
        return {
            "images_per_cpu_s": images / cost.tree_s,
            "input_share": cost.children_share,
            "peak_bytes": watched.peak_bytes,
        }

    def our_start(self) -> Measurement:
        """Trains a step as a job does."""
        # the seeds of runs that were trained to their end are taken by these
        run = self.planned(1000 + self.new_seed(), "runtime.max_steps=1", "runtime.log_every=1")
        run.prepare()
        watched = self.watched(
            "-m", "antioversmooth.training", str(run.dir), exit_code=os.EX_TEMPFAIL
        )
        return _start(watched, _record_times(run, TRAIN_LOSS)[0])

    def start(self, peer: str) -> Measurement:
        """Trains a step with another program."""
        task = self.task(ends_at_first_step=True)
        watched = self.watched("-m", PEERS[peer], str(task.write()))
        return _start(watched, task.times(STEP)[0])

    def shares(self, failed: dict[str, str]) -> dict[str, float]:
        """Seconds of a training of ours, by what they were spent on."""
        target = self.folder / "seconds.json"
        run = self.planned(2000 + self.new_seed())
        run.prepare()
        try:
            self.watched("-m", shares.__name__, str(run.dir), str(target))
        except RuntimeError as err:
            failed["shares of ours"] = str(err)
            return {}
        seconds: dict[str, float] = json.loads(target.read_text())
        return seconds


def _start(watched: Watched, first_step: float) -> Measurement:
    cost = watched.cost(watched.started, first_step)
    return {"cpu_s": cost.tree_s, "wall_s": first_step - watched.started}


def _record_times(run: Run, metric: str) -> list[float]:
    return [float(record["time"]) for record in run.metrics() if metric in record]


def _plain(recipe: Any) -> Iterator[tuple[str, Any]]:
    """Values of a recipe that JSON has."""
    for name, value in vars(recipe).items():
        if isinstance(value, str | int | float | list | None):
            yield name, value


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def link_classes(photographs: Path, folder: Path, case: Case) -> None:
    """Makes the train/<class>/ and val/<class>/ of a case, of links to the photographs in turn."""
    files = sorted(photographs.glob("*.jpg"))
    for split, number in (("train", case.train), ("val", case.val)):
        for index in range(number):
            place = folder / split / f"class{index % CLASSES}"
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{index:04}.jpg").hardlink_to(files[index // CLASSES % len(files)])
