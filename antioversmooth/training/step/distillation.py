"""Learning from a teacher, as in DeiT: https://arxiv.org/abs/2012.12877, section 5, and the
`losses.py` of its code."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antioversmooth.config import DataConfig, Distillation, Experiment, RecipeConfig
from antioversmooth.errors import CheckpointError
from antioversmooth.models.weights import load_weights, published
from antioversmooth.runs import Run
from antioversmooth.training.evaluator import autocast
from antioversmooth.training.run.distributed import Ranks
from antioversmooth.training.weights.initial import final_weights, new_model


class Teacher:
    """A frozen model in evaluation mode, whose logits another one learns from.

    Args:
        model: Made for images that are normalised by `mean` and `std`.
        data: Of the one that learns: how the images are normalised that both of them see.
        image_size: Pixels along one side of the images that the model takes; None: any.
    """

    def __init__(
        self,
        model: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        data: DataConfig,
        image_size: int | None = None,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.image_size = image_size
        own, shared = _per_channel(mean, std), _per_channel(data.mean, data.std)
        self._renormalise = (
            None
            if torch.equal(own, shared)
            else (shared[1] / own[1], (shared[0] - own[0]) / own[1])
        )

    def to(self, device: torch.device) -> Teacher:
        """Itself, on a device."""
        self.model.to(device)
        if self._renormalise is not None:
            factor, shift = self._renormalise
            self._renormalise = factor.to(device), shift.to(device)
        return self

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """[B, C, S, S], as the one that learns sees them -> logits [B, num_classes]."""
        if self._renormalise is not None:
            images = images * self._renormalise[0] + self._renormalise[1]
        if self.image_size is not None and images.shape[-1] != self.image_size:
            images = F.interpolate(images, size=self.image_size, mode="bicubic", antialias=True)
        logits: Tensor = self.model(images)
        return logits


def _per_channel(mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """[2, C, 1, 1]"""
    return torch.tensor([list(mean), list(std)])[:, :, None, None]


def load_teacher(run: Run, ranks: Ranks) -> Teacher | None:
    """The teacher that a run's recipe names, on the run's device; None where it names none.

    Raises:
        CheckpointError: Its weights are missing, or it does not sort these images into these
            classes.
    """
    config = run.experiment
    if config.recipe.teacher is None:
        return None
    kind, _, name = config.recipe.teacher.partition(":")
    run.require_file("teacher")
    if kind == "run":
        teacher = _of_run(run)
    else:
        model = _published(name, config) if kind == "timm" else _of_file(Path(name), config)
        mean, std = (
            _of_channels(model.pretrained_cfg[key], config.data.in_channels)
            for key in ("mean", "std")
        )
        size = (
            model.pretrained_cfg["input_size"][-1]
            if model.pretrained_cfg.get("fixed_input_size")
            else None
        )
        teacher = Teacher(model, mean, std, config.data, size)
    teacher.to(ranks.device)
    _try_out(teacher, config, ranks)
    return teacher


def _of_channels(values: Sequence[float], channels: int) -> Sequence[float]:
    """The same, or their mean for images of other channels, to which timm fits the first layer's
    sum."""
    return values if len(values) == channels else [statistics.fmean(values)] * channels


def _of_run(run: Run) -> Teacher:
    # runs.plan and Run.load see to it
    assert run.teacher is not None
    theirs = run.teacher.experiment
    model = new_model(theirs, seed=0)
    load_weights(model, final_weights(run, run.teacher, "learns from"))
    return Teacher(
        model, theirs.data.mean, theirs.data.std, run.experiment.data, theirs.model.image_size
    )


def _published(tag: str, config: Experiment) -> Any:
    return published(tag, in_chans=config.data.in_channels)


def _of_file(path: Path, config: Experiment) -> Any:
    name = config.recipe.teacher_model
    # RecipeConfig sees to it
    assert name is not None
    try:
        model = timm.create_model(
            name, num_classes=config.data.num_classes, in_chans=config.data.in_channels
        )
    except RuntimeError as err:
        raise CheckpointError(f"recipe.teacher_model: timm has no model {name!r}") from err
    report = load_weights(model, path)
    if report.reset:
        raise CheckpointError(
            f"{path}: the classifier of this teacher is of other classes than {config.data.name}"
        )
    return model


def _try_out(teacher: Teacher, config: Experiment, ranks: Ranks) -> None:
    """One black image, before the first epoch finds out."""
    side, classes = config.model.image_size, config.data.num_classes
    shape = (1, config.data.in_channels, side, side)
    try:
        with autocast(ranks.device, config.recipe.precision):
            found = teacher(torch.zeros(shape, device=ranks.device)).shape
    except (AssertionError, RuntimeError, ValueError) as err:
        raise CheckpointError(
            f"{config.recipe.teacher} takes no images of {list(shape[1:])}: {err}"
        ) from err
    if found != (1, classes):
        raise CheckpointError(
            f"{config.recipe.teacher} gives {found[-1]} numbers for an image, {config.data.name}"
            f" has {classes} classes"
        )


class Criterion:
    """The loss of a model's outputs; with a teacher, its own part and the teacher's are weighted by
    alpha."""

    def __init__(self, recipe: RecipeConfig) -> None:
        self.kind = recipe.distillation
        self.alpha, self.tau = recipe.distillation_alpha, recipe.distillation_tau

    def __call__(
        self, outputs: Tensor | tuple[Tensor, Tensor], targets: Tensor, taught: Tensor | None
    ) -> Tensor:
        """Mean over the images.

        Args:
            outputs: Logits [B, classes]; a pair, of the class token's and of the distillation
                token's classifier, where a model has both. Without a distillation token the teacher
                is followed by the same logits.
            targets: Soft labels, [B, classes].
            taught: The teacher's logits, [B, classes]; None without one.
        """
        labelled, distilled = outputs if isinstance(outputs, tuple) else (outputs, outputs)
        loss = F.cross_entropy(labelled.float(), targets)
        if taught is None:
            return loss
        return (1 - self.alpha) * loss + self.alpha * self.distance(
            distilled.float(), taught.float()
        )

    def distance(self, distilled: Tensor, taught: Tensor) -> Tensor:
        """The teacher's part.

        Soft, it is divided by images *and* classes, as in DeiT's code; the paper's equation is
        `classes` times it.
        """
        if self.kind is Distillation.hard:
            return F.cross_entropy(distilled, taught.argmax(1))
        ours, theirs = (F.log_softmax(logits / self.tau, dim=1) for logits in (distilled, taught))
        return (
            F.kl_div(ours, theirs, reduction="sum", log_target=True)
            * self.tau**2
            / distilled.numel()
        )
