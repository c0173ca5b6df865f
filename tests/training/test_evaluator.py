from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antioversmooth.runs import Run
from antioversmooth.training.data import open_data
from antioversmooth.training.distributed import Place, Ranks
from antioversmooth.training.evaluator import Evaluator
from antioversmooth.training.initial import new_model
from antioversmooth.training.train import make_loaders

ALONE = Ranks(Place(0, 1, 0, 1, "alone"), torch.device("cpu"), None)


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
    return Evaluator(config, open_data(config.data).val, make_loaders(config, seed=0), ALONE)


def test_accuracy_and_loss_are_those_of_the_logits(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run("runtime.eval_batch=100")
    labels = torch.tensor(open_data(run.experiment.data).val.labels)
    logits = torch.randn(359, 10, generator=torch.Generator().manual_seed(0))
    measured = evaluator(run)(Fixed(logits))
    ranks = (logits > logits.gather(1, labels[:, None])).sum(1)
    assert measured.num_images == 359
    assert measured.top1 == pytest.approx(100 * (ranks == 0).double().mean().item(), abs=1e-9)
    assert measured.top5 == pytest.approx(100 * (ranks < 5).double().mean().item(), abs=1e-9)
    assert measured.loss == pytest.approx(F.cross_entropy(logits, labels).item(), abs=1e-6)
    zeros = (ranks[labels == 0] == 0).double().mean().item()
    assert measured.per_class[0] == pytest.approx(100 * zeros, abs=1e-9)


def test_the_shares_of_all_ranks_are_the_split_once(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run("runtime.eval_batch=50")
    images = open_data(run.experiment.data).val
    loaders = make_loaders(run.experiment, seed=0)
    shares = [list(loaders.evaluation(images, rank=rank, world_size=3)) for rank in range(3)]
    labels = torch.cat([batch.labels for share in shares for batch in share])
    assert sorted(labels.tolist()) == sorted(images.labels.tolist())
    assert max(len(batch.labels) for share in shares for batch in share) == 50


def test_classes_without_images_and_few_classes_are_no_problem(folder_run: Callable[..., Run]) -> None:
    run = folder_run()
    measured = evaluator(run)(new_model(run.experiment, 0))
    assert measured.top5 == 100
    assert not any(math.isnan(value) for value in measured.per_class)
