"""Whether a run that stopped and resumed is equal, to the bit, to one that ran through."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from antioversmooth import spec
from antioversmooth.runs import Run
from antioversmooth.training.process import EXIT_RESUMABLE
from antioversmooth.training.run.checkpoint import load_state
from benchmarks.gpu.machine import the_device
from benchmarks.gpu.parts import Finding

ROW = "deit_s12_featscale"
SMALL = (
    "data.num_train=512",
    "data.num_val=64",
    "data.num_classes=8",
    "data.fingerprint=''",
    "recipe.warmup_epochs=1",
    "recipe.global_batch=64",
    "recipe.mix_group=16",
    "recipe.dropout=0.1",
    "runtime.log_every=1",
)
"""Steps on small photographs, with the whole recipe on."""
FULL_WIDTH = ("model.image_size=64", "recipe.epochs=4", "runtime.workers=2")
"""32 steps of a full-width DeiT."""
TINY = (
    "model.image_size=32",
    "model.embed_dim=24",
    "model.num_heads=3",
    "model.depth=2",
    "recipe.epochs=2",
    "runtime.workers=0",
)
CLASSES = 8
DETERMINISTIC = "deterministic"
KERNELS = (DETERMINISTIC, "default")
STRAIGHT = "straight"
RUNS: dict[str, tuple[int, ...]] = {STRAIGHT: (), "repeated": (), "resumed": (13,)}
"""Runs of each choice of kernels, and the steps at which they stop."""


def compare_resumed(root: Path) -> Iterator[Finding]:
    """Yields, for each choice of kernels and each run, the number of values of the final checkpoint
    that differ from those of a run that went through.

    All runs train at the same time.
    """
    on_gpu = the_device().type == "cuda"
    with tempfile.TemporaryDirectory() as given, ThreadPoolExecutor(8 if on_gpu else 1) as pool:
        folder = Path(given)
        write_class_folders(folder / "images")
        small = [*SMALL, *(FULL_WIDTH if on_gpu else TINY), f"data.root={folder / 'images'}"]
        states = {
            (kernels, name): pool.submit(
                _final_state, _plan(root, folder / kernels / name, small, stops), kernels
            )
            for kernels in (KERNELS if on_gpu else KERNELS[:1])
            for name, stops in RUNS.items()
        }
        for (kernels, name), state in states.items():
            if name != STRAIGHT:
                straight = states[kernels, STRAIGHT].result()
                yield f"{kernels} kernels, {name}", differing(straight, state.result())


def _plan(root: Path, folder: Path, given: Sequence[str], stops: Sequence[int]) -> list[Run]:
    """One run with each of the steps at which it stops, and then with its last."""
    row = root / "experiments" / f"{ROW}.yaml"
    ends = [*([f"runtime.max_steps={stop}"] for stop in stops), []]
    return [spec.load([row], [*given, *end]).plan([0], folder)[0] for end in ends]


def _final_state(turns: Sequence[Run], kernels: str) -> dict[str, Any]:
    """The last checkpoint of a run that is trained in so many turns."""
    for run in turns:
        run.prepare()
        train(run, deterministic=kernels == DETERMINISTIC)
    return load_state(turns[-1].checkpoints()[0].path)


def train(run: Run, *, deterministic: bool) -> None:
    """Trains in a process of its own, as a launch does.

    Raises:
        RuntimeError: It failed.
    """
    module = "benchmarks.gpu.deterministic" if deterministic else "antioversmooth.training"
    command = [sys.executable, "-m", module, str(run.dir)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, EXIT_RESUMABLE):
        raise RuntimeError(f"training ended with {done.returncode}: {done.stderr}")


def write_class_folders(folder: Path) -> None:
    """JPEG files of some classes, each a smooth field of its own and noise."""
    random = np.random.default_rng(0)
    for split, number in (("train", 64), ("val", 8)):
        for label in range(CLASSES):
            place = folder / split / f"class{label}"
            place.mkdir(parents=True)
            base = np.sin(np.arange(96) * (label + 1) / 8)[:, None, None]
            for index in range(number):
                pixels = 128 + 60 * base + 40 * random.standard_normal((96, 96, 3))
                image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
                image.save(place / f"{index:03}.jpg")


def differing(ours: dict[str, Any], other: dict[str, Any]) -> dict[str, int]:
    """Number of values that differ, but for times, and of all."""
    left, right = (dict(_values(state)) for state in (ours, other))
    names = [name for name in {**left, **right} if "epoch_s" not in name]
    differ = [n for n in names if n not in left or n not in right or not _equal(left[n], right[n])]
    return {"differ": len(differ), "of": len(names)}


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return torch.equal(left, right)
    return bool(left == right)


def _values(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _values(inner, f"{name}.{key}")
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            yield from _values(inner, f"{name}[{number}]")
    else:
        yield name, value
