"""Accuracy of a model on a split: each image counts once, whatever the number of ranks."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antioversmooth.config import Experiment, Precision
from antioversmooth.datasets.images import Images, check_unreadable
from antioversmooth.errors import CheckpointError
from antioversmooth.runs.metrics import VAL_IMAGES, VAL_LOSS, VAL_TOP1, VAL_TOP5
from antioversmooth.training.data.augmentation import DevicePreprocessing
from antioversmooth.training.data.loading import OK, Loaders
from antioversmooth.training.run.distributed import Ranks


@dataclass(frozen=True)
class Evaluation:
    """Accuracy and loss of a model on a split."""

    top1: float
    """Percent of the images whose class has the highest logit."""
    top5: float
    """Percent of the images whose class is among the five with the highest logits."""
    loss: float
    """Mean cross entropy against the labels, without smoothing."""
    per_class: list[float]
    """Top-1 of each class's images, in percent; NaN for a class without images."""
    num_images: int
    images_per_s: float
    """Over all ranks, data loading included."""
    unreadable: tuple[str, ...] = ()
    """Images that could not be read, which are not counted."""
    device: str = ""
    """For people: the GPU, or the processor."""

    def detail(self) -> dict[str, Any]:
        """Everything but accuracy, loss and device, for JSON; null for a class without images."""
        return {
            "num_images": self.num_images,
            "unreadable": list(self.unreadable),
            "images_per_s": self.images_per_s,
            "per_class_top1": [None if math.isnan(value) else value for value in self.per_class],
        }

    def metrics(self) -> dict[str, float]:
        """Accuracy, loss, and the number of images if some could not be read, under the journal's
        metric names."""
        counted = {VAL_IMAGES: self.num_images} if self.unreadable else {}
        return {VAL_TOP1: self.top1, VAL_TOP5: self.top5, VAL_LOSS: self.loss, **counted}


class Evaluator:
    """Evaluates models on one split; all ranks call it together, and get the same result.

    Args:
        columns: The model's class of each class of the images: logits of others are left out of
            accuracy and loss. Default: the same classes.

    Raises:
        DataError: More images than `data.max_corrupt` cannot be read.
        CheckpointError: The loss is not a finite number.
    """

    def __init__(
        self,
        experiment: Experiment,
        images: Images,
        loaders: Loaders,
        ranks: Ranks,
        columns: Sequence[int] | None = None,
    ) -> None:
        self.data = experiment.data
        self.num_classes = experiment.data.num_classes if columns is None else len(columns)
        self.columns = None if columns is None else torch.tensor(columns, device=ranks.device)
        self.images = images
        self.precision = experiment.recipe.precision
        self.ranks = ranks
        self.batches = loaders.evaluation(images, rank=ranks.rank, world_size=ranks.world_size)
        self.preprocessing = DevicePreprocessing(experiment.data, seed=0, device=ranks.device)

    def __call__(self, model: nn.Module) -> Evaluation:
        """The evaluation of one model."""
        return self.each([model])[0]

    def each(self, models: Sequence[nn.Module]) -> list[Evaluation]:
        """The evaluations of several models in one pass over the images, each read once."""
        started = time.perf_counter()
        sums, unreadable = self._sums(models)
        summed = self.ranks.sum(sums)
        total = summed[0, 0].sum()
        names = self._names(unreadable) if total < len(self.images.labels) else []
        images_per_s = float(total) / (time.perf_counter() - started)
        return [self._evaluation(one, images_per_s, tuple(names)) for one in summed]

    def _evaluation(
        self, sums: Tensor, images_per_s: float, unreadable: tuple[str, ...]
    ) -> Evaluation:
        images, top1, top5, loss = sums
        total = images.sum()
        if not loss.sum().isfinite():
            raise CheckpointError(
                f"the loss on the validation images of {self.data.name} is not a finite number: the"
                " weights have diverged, or their values exceed recipe.precision ="
                f" {self.precision.value}"
            )
        return Evaluation(
            top1=float(100 * top1.sum() / total),
            top5=float(100 * top5.sum() / total),
            loss=float(loss.sum() / total),
            per_class=(100 * top1 / images).tolist(),
            num_images=int(total),
            images_per_s=images_per_s,
            unreadable=unreadable,
            device=self.ranks.device_name,
        )

    def _names(self, unreadable: list[int]) -> list[str]:
        """Names of all ranks' unreadable images; raises, on every rank, if there are too many."""
        names = [self.images.name(index) for index in sorted(chain(*self.ranks.gather(unreadable)))]
        check_unreadable(names, self.data.max_corrupt)
        return names

    @torch.no_grad()
    def _sums(self, models: Sequence[nn.Module]) -> tuple[Tensor, list[int]]:
        """Sums by class of the images, [models, 4, num_classes], and indices of unreadable images.

        The four are: images, top-1 hits, top-5 hits, loss.
        """
        for model in models:
            model.eval()
        shape = len(models), 4, self.num_classes
        sums = torch.zeros(shape, dtype=torch.float64, device=self.ranks.device)
        unreadable: list[int] = []
        for batch in self.batches:
            self.ranks.progress.mark()
            # an unreadable image is replaced by a neighbour, which counts in its own right
            readable = batch.corrupt == OK
            unreadable += batch.corrupt[~readable].tolist()
            labels = batch.labels.to(self.ranks.device, non_blocking=True)
            counted = readable.to(self.ranks.device, non_blocking=True)
            images = self.preprocessing.normalise(batch.images)
            for model, of_model in zip(models, sums, strict=True):
                scores = _scores(self._logits(model, images), labels)
                of_model.index_add_(1, labels, scores * counted)
        return sums, unreadable

    def _logits(self, model: nn.Module, images: Tensor) -> Tensor:
        """[B, classes of the images]."""
        with autocast(self.ranks.device, self.precision):
            logits: Tensor = model(images)
        return (logits if self.columns is None else logits[:, self.columns]).float()


def _scores(logits: Tensor, labels: Tensor) -> Tensor:
    """The four of `Evaluator._sums` for each image; [4, B]."""
    best = logits.topk(min(5, logits.shape[1])).indices
    hits = best == labels[:, None]
    loss = F.cross_entropy(logits, labels, reduction="none")
    return torch.stack([torch.ones_like(loss), hits[:, 0], hits.any(1), loss]).double()


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Autocast to the precision of a recipe; on a CPU always float32."""
    dtype = {Precision.float16: torch.float16, Precision.bfloat16: torch.bfloat16}.get(precision)
    return torch.autocast(device.type, dtype, enabled=dtype is not None and device.type == "cuda")
