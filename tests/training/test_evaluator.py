from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import processes
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antioversmooth.datasets.dataset import open_dataset
from antioversmooth.errors import DataError
from antioversmooth.runs import Run, journal
from antioversmooth.training.data.loading import Loaders
from antioversmooth.training.evaluator import Evaluator
from antioversmooth.training.run.distributed import RankInfo, Ranks
from antioversmooth.training.weights.initial import new_model

ALONE = Ranks(RankInfo(0, 1, 0, 1, "alone"), torch.device("cpu"), None)


class Fixed(nn.Module):
    """Gives the logits that it was made with, in the order asked for."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits
        self.given = 0

    def forward(self, images: Tensor) -> Tensor:
        start, self.given = self.given, self.given + len(images)
        return self.logits[start : self.given]


def evaluator(run: Run) -> Evaluator:
    config = run.experiment
    return Evaluator(config, open_dataset(config.data).val, Loaders(config, seed=0), ALONE)


def test_accuracy_and_loss_are_those_of_the_logits(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run("runtime.eval_batch=100")
    labels = torch.tensor(open_dataset(run.experiment.data).val.labels)
    logits = torch.randn(359, 10, generator=torch.Generator().manual_seed(0))
    measured = evaluator(run)(Fixed(logits))
    ranks = (logits > logits.gather(1, labels[:, None])).sum(1)
    assert measured.num_images == 359
    assert measured.top1 == pytest.approx(100 * (ranks == 0).double().mean().item(), abs=1e-9)
    assert measured.top5 == pytest.approx(100 * (ranks < 5).double().mean().item(), abs=1e-9)
    assert measured.loss == pytest.approx(F.cross_entropy(logits, labels).item(), abs=1e-6)
    zeros = (ranks[labels == 0] == 0).double().mean().item()
    assert measured.per_class[0] == pytest.approx(100 * zeros, abs=1e-9)


def test_several_models_are_evaluated_in_one_pass_as_each_is_alone(
    tiny_run: Callable[..., Run],
) -> None:
    run = tiny_run("runtime.eval_batch=100")
    models = [new_model(run.experiment, seed) for seed in (0, 1)]
    alone = [evaluator(run)(model).metrics() for model in models]
    both = evaluator(run)
    passes: list[int] = []
    batches = both.batches

    class Counted:
        def __iter__(self) -> Iterator[Any]:
            passes.append(1)
            return iter(batches)

    both.batches = Counted()  # type: ignore[assignment]
    assert [found.metrics() for found in both.each(models)] == alone
    assert alone[0] != alone[1]
    assert len(passes) == 1


def test_the_shares_of_all_ranks_are_the_split_once(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run("runtime.eval_batch=50")
    images = open_dataset(run.experiment.data).val
    loaders = Loaders(run.experiment, seed=0)
    shares = [list(loaders.evaluation(images, rank=rank, world_size=3)) for rank in range(3)]
    labels = torch.cat([batch.labels for share in shares for batch in share])
    assert sorted(labels.tolist()) == sorted(images.labels.tolist())
    assert max(len(batch.labels) for share in shares for batch in share) == 50


def damage(run: Run, *numbers: int) -> list[str]:
    """Breaks validation images; their names."""
    images = open_dataset(run.experiment.data).val
    for number in numbers:
        Path(images.name(number)).write_bytes(b"no image")
    return [images.name(number) for number in numbers]


def test_unreadable_images_are_named_and_not_counted(
    folder_run: Callable[..., Run],
) -> None:
    """Their neighbours are not counted twice in their place."""
    run = folder_run("data.max_corrupt=2", "runtime.eval_batch=5")
    names = damage(run, 2, 7)
    labels = torch.tensor(open_dataset(run.experiment.data).val.labels)
    logits = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    measured = evaluator(run)(Fixed(logits))
    whole = [index for index in range(12) if index not in (2, 7)]
    assert measured.unreadable == tuple(names)
    assert measured.num_images == measured.metrics()["val/images"] == 10
    assert measured.top1 == pytest.approx(
        100 * (logits.argmax(1) == labels)[whole].double().mean().item(), abs=1e-9
    )
    assert measured.loss == pytest.approx(
        F.cross_entropy(logits[whole], labels[whole]).item(), abs=1e-6
    )


def test_too_many_unreadable_images_end_an_evaluation(
    folder_run: Callable[..., Run],
) -> None:
    run = folder_run("data.max_corrupt=1")
    names = damage(run, 0, 11)
    with pytest.raises(
        DataError,
        match=rf"2 image\(s\) cannot be read, data.max_corrupt allows 1: {', '.join(names)}",
    ):
        evaluator(run)(new_model(run.experiment, 0))


@pytest.mark.parametrize("allowed", [1, 2])
def test_unreadable_images_of_all_ranks_count_together(
    folder_run: Callable[..., Run], allowed: int
) -> None:
    """Rank 0 evaluates images 0, 2, ..., rank 1 the others: each finds one of them."""
    run = folder_run(
        f"data.max_corrupt={allowed}",
        "recipe.epochs=1",
        "recipe.warmup_epochs=0",
        "runtime.workers=0",
    )
    names = damage(run, 4, 9)
    assert processes.train(run, ranks=2) == ([0, 0] if allowed == 2 else [2, 2])
    noted = [
        record["file"]
        for record in journal.read(run.attempts_path)
        if record["event"] == "corrupt-image"
    ]
    assert sorted(noted) == (names if allowed == 2 else [])
    if allowed == 1:
        assert all(name in last_message(run) for name in names)


def last_message(run: Run) -> str:
    return str(
        [record for record in journal.read(run.attempts_path) if record["event"] == "end"][-1][
            "message"
        ]
    )


def test_classes_without_images_and_fewer_than_five_classes_are_evaluated(
    folder_run: Callable[..., Run],
) -> None:
    run = folder_run()
    measured = evaluator(run)(new_model(run.experiment, 0))
    assert measured.top5 == 100
    assert not any(math.isnan(value) for value in measured.per_class)
