from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from antioversmooth.runs import Run
from antioversmooth.training.augmentation import train_transform
from antioversmooth.training.data import open_data
from antioversmooth.training.loading import WHOLE, Batch, FixedBatches, Views, default_workers
from antioversmooth.training.sampling import Blocks, SampleOrder, View
from antioversmooth.training.train import make_loaders


def batches(run: Run) -> list[Batch]:
    config = run.experiment
    order = SampleOrder(config.data.num_train, config.recipe.global_batch, seed=0, repeats=3)
    images = open_data(config.data).train
    return list(make_loaders(config, seed=0).training(images, Blocks(order, 8, 1, 0, 0, 4)))


def test_worker_processes_do_not_change_a_byte(folder_run: Callable[..., Run]) -> None:
    alone, helped = (batches(folder_run(f"runtime.workers={n}")) for n in (0, 2))
    assert len(alone) == 4
    for ours, theirs in zip(alone, helped, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_repeated_views_of_an_image_are_decoded_once_and_differ(folder_run: Callable[..., Run]) -> None:
    run = folder_run()
    config = run.experiment
    images = open_data(config.data).train
    views = Views(images, train_transform(config.recipe, config.data, 8), seed=0)
    first = views[View(0, 5)][0]
    Path(images.name(5)).unlink()
    assert not torch.equal(views[View(1, 5)][0], first)


def test_images_in_memory_without_random_parts_are_only_indexed(tiny_run: Callable[..., Run]) -> None:
    config = tiny_run().experiment
    images = open_data(config.data).train
    views = Views(images, train_transform(config.recipe, config.data, 8), seed=0)
    (batch,) = FixedBatches(views, [[View(0, 7), View(1, 3)]])
    assert torch.equal(batch.images[0], views[View(9, 7)][0])
    assert batch.labels.tolist() == [images.labels[7], images.labels[3]]
    assert isinstance(make_loaders(config, seed=0).evaluation(images), FixedBatches)


def test_an_unreadable_image_is_replaced_by_its_neighbour_and_named(folder_run: Callable[..., Run]) -> None:
    config = folder_run().experiment
    images = open_data(config.data).train
    last = len(images.labels) - 1
    views = Views(images, train_transform(config.recipe, config.data, 8), seed=0)
    for damaged, neighbour in ((3, 4), (last, last - 1)):
        Path(images.name(damaged)).write_bytes(b"\x89PNG\r\n")
        view, label, corrupt = views[View(0, damaged)]
        assert torch.equal(view, views[View(0, neighbour)][0])
        assert (label, corrupt) == (images.labels[neighbour], damaged)
    assert views[View(0, 0)][2] == WHOLE


def test_workers_are_the_cpus_given_less_one(
    folder_run: Callable[..., Run], tiny_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = open_data(folder_run().experiment.data).train
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    assert default_workers(files, local_world_size=4) == 3
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "12")
    assert default_workers(files, local_world_size=4) == 11
    assert default_workers(open_data(tiny_run().experiment.data).train, local_world_size=1) == 0
