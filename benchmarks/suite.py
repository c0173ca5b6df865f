"""All measurements of one run, with the machine that they were made on, as one JSON value."""

from __future__ import annotations

import os
import platform
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import PIL
import timm
import torch
import torchvision

from antioversmooth import spec
from antioversmooth.training.run.distributed import processor_name
from benchmarks import (
    compiled,
    grey_levels,
    host,
    listings,
    methods,
    mlflow_sync,
    models,
    pipeline,
    size,
    startup,
    table_command,
)
from benchmarks.timing import cpu_clock, cuda_clock


@dataclass(frozen=True)
class Effort:
    """Number and size of the measurements."""

    cases: tuple[models.Case, ...] = models.CASES
    rounds: int = 8
    """Rounds of whole models."""
    attention_rounds: int = 20
    images: int = 40
    """JPEG files, and training views a round."""
    host_rounds: int = 40
    """Rounds of steps of tiny tensors."""
    host_overrides: tuple[str, ...] = ()
    method_overrides: tuple[str, ...] = ()
    pipeline_rounds: int = 18
    start_rounds: int = 2
    sync: mlflow_sync.SyncLoad = mlflow_sync.LOAD
    table: table_command.TableLoad = table_command.LOAD
    listing: listings.ListingLoad = listings.LOAD
    size: size.SizeLoad = size.LOAD
    augmentations: int = 100_000
    """Views of the training recipe that must come out whole."""
    compared_views: int = 4
    """Views of each image whose pixels are compared with the exact policy's."""


QUICK = Effort(
    models.QUICK_CASES,
    rounds=2,
    attention_rounds=2,
    images=4,
    host_rounds=2,
    host_overrides=("model.depth=2",),
    method_overrides=("model.image_size=32", "model.embed_dim=24", "model.depth=3"),
    pipeline_rounds=2,
    start_rounds=1,
    sync=mlflow_sync.QUICK_LOAD,
    table=table_command.QUICK_LOAD,
    listing=listings.QUICK_LOAD,
    size=size.QUICK_LOAD,
    augmentations=100,
    compared_views=1,
)


def measure(project: Path, effort: Effort, device: torch.device) -> dict[str, Any]:
    """The content of `results/bench.json`; times are seconds of each round, by variant.

    Args:
        project: Holds `experiments/`.
        device: Of the models; everything else happens on the CPU.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    clock = cuda_clock if device.type == "cuda" else cpu_clock
    compared = {
        case.name: models.compare(case, device, clock, rounds=effort.rounds)
        for case in effort.cases
    }
    attention = models.compare_attention(
        effort.cases[0], device, clock, rounds=effort.attention_rounds
    )
    return {
        "machine": machine(device),
        "rounds": effort.rounds,
        "models": compared,
        "attention": attention,
        "methods": measure_methods(project, effort),
        "host": measure_host(project, effort),
        "compiled": measure_compiled(project, effort),
        "pipeline": measure_input(project, effort),
        "start": startup.first_steps(project, rounds=effort.start_rounds),
        "mirror": mlflow_sync.sync_times(project, effort.sync),
        "table": table_command.table_times(project, effort.table),
        "listing": listings.listing_times(effort.listing),
        "size": size.size_costs(project, effort.size),
        "checkpoint": startup.checkpoint_stall(
            project, effort.cases[0].tag, rounds=effort.start_rounds
        ),
    }


def measure_methods(project: Path, effort: Effort) -> dict[str, Any]:
    """The measurements of every method's step."""
    return methods.step_times(project, rounds=effort.rounds, overrides=effort.method_overrides)


def measure_host(project: Path, effort: Effort) -> dict[str, Any]:
    """The measurements of the host's time."""
    return host.host_times(project, rounds=effort.host_rounds, overrides=effort.host_overrides)


def measure_compiled(project: Path, effort: Effort) -> dict[str, Any]:
    """The measurements of compiled steps."""
    return compiled.compiled_steps(
        project, rounds=effort.host_rounds, overrides=effort.host_overrides
    )


def measure_input(project: Path, effort: Effort) -> dict[str, Any]:
    """The measurements of the input pipelines."""
    row = spec.load_experiment(project / "experiments" / "deit_s12.yaml", [])
    with tempfile.TemporaryDirectory() as folder:
        images = pipeline.write_photographs(Path(folder), effort.images)
        size = sum(path.stat().st_size for path in Path(folder).iterdir()) / effort.images
        times = pipeline.compare_pipelines(
            images, row.recipe, row.data, cpu_clock, rounds=effort.pipeline_rounds
        )
        made = pipeline.made_views(images, row.recipe, row.data, number=effort.augmentations)
        apart = grey_levels.differences(images, row.recipe, row.data, views=effort.compared_views)
    levels = {name: asdict(found) for name, found in apart.items()}
    return {
        "images": effort.images,
        "mean_bytes": size,
        "round_s": times,
        **made,
        "grey_levels": levels,
    }


def machine(device: torch.device) -> dict[str, Any]:
    """Hardware and versions that the numbers depend on."""
    packages = {
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "timm": timm.__version__,
    }
    return {
        "measured": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": processor_name() or platform.machine(),
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "one CPU thread",
        "python": platform.python_version(),
        **packages,
        "pillow": PIL.__version__,
    }
