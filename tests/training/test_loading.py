from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from antioversmooth.datasets.dataset import open_dataset
from antioversmooth.errors import DataError
from antioversmooth.runs import Run
from antioversmooth.training.data import loading
from antioversmooth.training.data.augmentation import train_transform
from antioversmooth.training.data.decoding import open_image
from antioversmooth.training.data.loading import OK, Batch, FixedBatches, Loaders, ViewDataset
from antioversmooth.training.data.sampling import MicroBatches, SampleOrder, View
from antioversmooth.training.run.distributed import RankInfo


def batches(run: Run) -> list[Batch]:
    config = run.experiment
    order = SampleOrder.of(config, seed=0)
    images = open_dataset(config.data).train
    return list(Loaders(config, seed=0).training(images, MicroBatches(order, 8, 1, 0, 0, 4)))


def test_worker_processes_do_not_change_a_byte(folder_run: Callable[..., Run]) -> None:
    alone, helped = (batches(folder_run(f"runtime.workers={n}")) for n in (0, 2))
    assert len(alone) == 4
    for ours, theirs in zip(alone, helped, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_repeated_views_of_an_image_are_decoded_once_and_differ(
    folder_run: Callable[..., Run],
) -> None:
    run = folder_run()
    config = run.experiment
    images = open_dataset(config.data).train
    views = ViewDataset(images, train_transform(config.recipe, config.data, 8), seed=0)
    first = views[View(0, 5)][0]
    Path(images.name(5)).unlink()
    assert not torch.equal(views[View(1, 5)][0], first)


def test_an_image_is_decoded_once_for_all_of_its_views_in_a_batch(
    folder_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = folder_run().experiment
    images = open_dataset(config.data).train
    views = ViewDataset(images, train_transform(config.recipe, config.data, 8), seed=0)
    batch = [View(40 + place, image) for place, image in enumerate((5, 2, 9, 5, 2, 9, 5))]
    one_by_one = [views[view] for view in batch]
    read: list[int] = []
    monkeypatch.setattr(
        loading, "open_image", lambda images, i: (read.append(i), open_image(images, i))[1]
    )
    together = ViewDataset(images, views.transform, seed=0).__getitems__(batch)
    assert sorted(read) == [2, 5, 9]
    for (view, label, _), (expected, expected_label, _) in zip(together, one_by_one, strict=True):
        assert torch.equal(view, expected)
        assert label == expected_label


@pytest.mark.parametrize(("together", "size"), [(3, 10**6), (64, 400), (64, 0)])
def test_views_are_the_same_however_many_are_made_together(
    folder_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, together: int, size: int
) -> None:
    """Three, two or one of them at a time; an image has 360 bytes."""
    config = folder_run().experiment
    images = open_dataset(config.data).train
    views = ViewDataset(images, train_transform(config.recipe, config.data, 8), seed=0)
    batch = [View(place, image) for place, image in enumerate((5, 2, 9, 5, 2, 9, 5))]
    expected = views.__getitems__(batch)
    monkeypatch.setattr(loading, "TOGETHER", together)
    monkeypatch.setattr(loading, "TOGETHER_BYTES", size)
    for (view, *_), (same, *_) in zip(views.__getitems__(batch), expected, strict=True):
        assert torch.equal(view, same)


def test_images_in_memory_without_random_parts_are_only_indexed(
    tiny_run: Callable[..., Run],
) -> None:
    config = tiny_run().experiment
    images = open_dataset(config.data).train
    views = ViewDataset(images, train_transform(config.recipe, config.data, 8), seed=0)
    (batch,) = FixedBatches(views, [[View(0, 7), View(1, 3)]])
    assert torch.equal(batch.images[0], views[View(9, 7)][0])
    assert batch.labels.tolist() == [images.labels[7], images.labels[3]]
    assert isinstance(Loaders(config, seed=0).evaluation(images), FixedBatches)


def test_an_unreadable_image_is_replaced_by_its_neighbour_and_named(
    folder_run: Callable[..., Run],
) -> None:
    config = folder_run().experiment
    images = open_dataset(config.data).train
    last = len(images.labels) - 1
    views = ViewDataset(images, train_transform(config.recipe, config.data, 8), seed=0)
    for damaged, neighbour in ((3, 4), (last, last - 1)):
        Path(images.name(damaged)).write_bytes(b"\x89PNG\r\n")
        view, label, corrupt = views[View(0, damaged)]
        assert torch.equal(view, views[View(0, neighbour)][0])
        assert (label, corrupt) == (images.labels[neighbour], damaged)
    assert views[View(0, 0)][2] == OK


def test_data_that_has_gone_is_said_so_after_a_few_tries(
    folder_run: Callable[..., Run], tmp_path: Path
) -> None:
    config = folder_run().experiment
    images = open_dataset(config.data).train
    (tmp_path / "images" / "train").rename(tmp_path / "gone")
    views = ViewDataset(images, train_transform(config.recipe, config.data, 8), seed=0)
    with pytest.raises(
        DataError, match=r"neither .*ash1.png nor the images beside it can be read .*still there\?"
    ):
        views[View(0, 1)]


@pytest.mark.parametrize(
    ("info", "environment", "cpus"),
    [
        # a quarter of sixteen CPUs
        (RankInfo(0, 4, 0, 4, "torchrun"), {}, 4),
        # one task per rank
        (RankInfo(0, 8, 0, 4, "slurm"), {"SLURM_CPUS_PER_TASK": "12"}, 12),
        # one task per node, shared by its ranks
        (RankInfo(0, 8, 0, 4, "torchrun"), {"SLURM_CPUS_PER_TASK": "48"}, 12),
        (RankInfo(0, 1, 0, 1, "alone"), {"SLURM_CPUS_PER_TASK": "6"}, 6),
        (RankInfo(0, 8, 0, 4, "slurm"), {"SLURM_CPUS_PER_GPU": "7"}, 7),
        (RankInfo(0, 8, 0, 4, "torchrun"), {"SLURM_CPUS_PER_GPU": "7"}, 7),
        (RankInfo(0, 32, 0, 32, "torchrun"), {}, 1),
    ],
)
def test_a_process_has_the_cpus_that_it_was_given(
    info: RankInfo, environment: dict[str, str], cpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.delenv("SLURM_CPUS_PER_GPU", raising=False)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    assert info.cpus == cpus


def test_workers_are_the_cpus_given_less_one(
    folder_run: Callable[..., Run], tiny_run: Callable[..., Run]
) -> None:
    def workers(run: Run) -> int:
        loader = Loaders(run.experiment, seed=0, cpus=3).evaluation(
            open_dataset(run.experiment.data).val
        )
        return loader.num_workers if isinstance(loader, DataLoader) else 0

    assert workers(folder_run("runtime.workers=-1")) == 2
    assert workers(folder_run("runtime.workers=1")) == 1
    assert workers(tiny_run()) == 0
    large = folder_run("runtime.workers=-1", "model.image_size=128")
    loaders = Loaders(large.experiment, seed=0, cpus=3)
    in_memory = loaders.evaluation(open_dataset(tiny_run().experiment.data).val)
    assert isinstance(in_memory, DataLoader)
    assert in_memory.num_workers == 2
