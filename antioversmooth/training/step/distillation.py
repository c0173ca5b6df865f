"""Distillation, as in DeiT (https://arxiv.org/abs/2012.12877, section 5) and its `losses.py`."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antioversmooth.config import DataConfig, Distillation, Experiment, RecipeConfig
from antioversmooth.datasets.classes import describe_difference
from antioversmooth.errors import CheckpointError
from antioversmooth.models.load_report import LoadReport
from antioversmooth.models.weights import load_weights, published_model
from antioversmooth.runs import Run
from antioversmooth.training.evaluator import autocast
from antioversmooth.training.run.distributed import Ranks
from antioversmooth.training.weights.classes import (
    known_classes,
    match_classifier,
    published_classes,
)
from antioversmooth.training.weights.initial import final_checkpoint, new_model
from antioversmooth.training.weights.recorded import require_plain


class Teacher:
    """A frozen model in evaluation mode, whose logits the student learns from.

    Args:
        model: Takes images that are normalised by `mean` and `std`.
        data: The student's data; its images, which both models get, are normalised by this.
        image_size: Side in pixels of the images that the model takes; None: any.
        report: Of its weights.
    """

    def __init__(
        self,
        model: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        data: DataConfig,
        image_size: int | None = None,
        report: LoadReport | None = None,
    ) -> None:
        self.report = report or LoadReport("a model in memory", len(model.state_dict()))
        self.model = model.eval().requires_grad_(False)
        self.image_size = image_size
        own, student = _per_channel(mean, std), _per_channel(data.mean, data.std)
        same = torch.equal(own, student)
        self._renormalise = None if same else (student[1] / own[1], (student[0] - own[0]) / own[1])

    def to(self, device: torch.device) -> Teacher:
        """Moves the teacher to a device, and returns it."""
        self.model.to(device)
        if self._renormalise is not None:
            factor, shift = self._renormalise
            self._renormalise = factor.to(device), shift.to(device)
        return self

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """[B, C, S, S], normalised as for the student -> logits [B, num_classes]."""
        if self._renormalise is not None:
            images = images * self._renormalise[0] + self._renormalise[1]
        if self.image_size is not None and images.shape[-1] != self.image_size:
            images = F.interpolate(images, size=self.image_size, mode="bicubic", antialias=True)
        logits: Tensor = self.model(images)
        return logits


def _per_channel(mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Mean and standard deviation. Shape: [2, C, 1, 1]."""
    return torch.tensor([list(mean), list(std)])[:, :, None, None]


def load_teacher(run: Run, classes: Sequence[str], ranks: Ranks) -> Teacher | None:
    """The teacher that a run's recipe names, on the run's device; None where it names none.

    Args:
        classes: Names of the classes of the run's data, in order, which become the teacher's.

    Raises:
        CheckpointError: Its weights are missing, or it does not fit the images or classes.
    """
    config = run.experiment
    if config.recipe.teacher is None:
        return None
    kind, _, name = config.recipe.teacher.partition(":")
    run.require_file("teacher")
    if kind == "run":
        teacher = _teacher_of_run(run)
    else:
        model, report = (
            _published(name, config) if kind == "timm" else _model_of_file(Path(name), config)
        )
        cfg, channels = model.pretrained_cfg, config.data.in_channels
        mean, std = (_for_channels(cfg[key], channels) for key in ("mean", "std"))
        size = cfg["input_size"][-1] if cfg.get("fixed_input_size") else None
        teacher = Teacher(model, mean, std, config.data, size, report)
    teacher.to(ranks.device)
    _check_fit(teacher, config, ranks)
    _match_classes(teacher, run, classes)
    return teacher


def _match_classes(teacher: Teacher, run: Run, classes: Sequence[str]) -> None:
    """Puts the teacher's logits into the order of the data's classes.

    Raises:
        CheckpointError: The teacher knows other classes.
    """
    kind, _, name = (run.experiment.recipe.teacher or "").partition(":")
    if kind == "timm":
        known = published_classes(name)
    else:
        source = final_checkpoint(run.teacher) if run.teacher else Path(name)
        known = known_classes(source, len(classes), classes)
    matched = match_classifier(teacher.model, classes, known)
    if matched is None:
        # `match_classifier` found a difference
        assert known is not None
        raise CheckpointError(
            f"recipe.teacher: {describe_difference(classes, known)}; choose a teacher of the data's"
            " classes"
        )
    teacher.report = replace(teacher.report, classes=matched.description)


def _for_channels(values: Sequence[float], channels: int) -> Sequence[float]:
    """The values, or their mean where the images have other channels.

    For such images timm sums the weights of the first layer over the channels.
    """
    return values if len(values) == channels else [statistics.fmean(values)] * channels


def untrained_teacher(run: Run) -> Teacher:
    """The teacher of a recipe that names another run, on the CPU and with random weights."""
    # set by runs.plan and Run.load
    assert run.teacher is not None
    config = run.teacher.experiment
    mean, std, size = config.data.mean, config.data.std, config.model.image_size
    return Teacher(new_model(config, seed=0), mean, std, run.experiment.data, size)


def _teacher_of_run(run: Run) -> Teacher:
    teacher = untrained_teacher(run)
    assert run.teacher is not None
    weights = final_checkpoint(run.teacher, f"{run.name} learns from it")
    teacher.report = load_weights(teacher.model, weights)
    return teacher


def _published(tag: str, config: Experiment) -> tuple[Any, LoadReport]:
    model = published_model(tag, in_chans=config.data.in_channels)
    return model, LoadReport(f"timm:{tag}", len(model.state_dict()))


def _model_of_file(path: Path, config: Experiment) -> tuple[Any, LoadReport]:
    name = config.recipe.teacher_model
    # checked by RecipeConfig
    assert name is not None
    try:
        model = timm.create_model(
            name, num_classes=config.data.num_classes, in_chans=config.data.in_channels
        )
    except RuntimeError as err:
        raise CheckpointError(f"recipe.teacher_model: timm has no model {name!r}") from err
    require_plain(path, "name the run that trained them, recipe.teacher=run:NAME")
    return model, load_weights(model, path)


def _check_fit(teacher: Teacher, config: Experiment, ranks: Ranks) -> None:
    """Raises CheckpointError if the teacher does not fit: tries one black image."""
    side, classes = config.model.image_size, config.data.num_classes
    shape = (1, config.data.in_channels, side, side)
    try:
        with autocast(ranks.device, config.recipe.precision):
            logits_shape = teacher(torch.zeros(shape, device=ranks.device)).shape
    except (AssertionError, RuntimeError, ValueError) as err:
        raise CheckpointError(
            f"{config.recipe.teacher} does not take images of {list(shape[1:])}: {err}"
        ) from err
    if logits_shape != (1, classes):
        raise CheckpointError(
            f"{config.recipe.teacher} gives {logits_shape[-1]} logits for an image,"
            f" {config.data.name} has {classes} classes"
        )


class Criterion:
    """The loss of a model's outputs; with a teacher, a sum of both losses, weighted by alpha."""

    def __init__(self, recipe: RecipeConfig) -> None:
        self.kind = recipe.distillation
        self.alpha, self.tau = recipe.distillation_alpha, recipe.distillation_tau

    def __call__(
        self,
        outputs: Tensor | tuple[Tensor, Tensor],
        targets: Tensor,
        teacher_logits: Tensor | None,
    ) -> Tensor:
        """Mean over the images.

        Args:
            outputs: Logits [B, classes]; a pair where a model has a distillation token: those of
                the class token's and of the distillation token's classifier. Without such a token
                the same logits learn from labels and teacher.
            targets: Soft labels, [B, classes].
            teacher_logits: [B, classes]; None without a teacher.
        """
        labelled, distilled = outputs if isinstance(outputs, tuple) else (outputs, outputs)
        loss = F.cross_entropy(labelled.float(), targets)
        if teacher_logits is None:
            return loss
        return (1 - self.alpha) * loss + self.alpha * self.distillation_loss(
            distilled.float(), teacher_logits.float()
        )

    def distillation_loss(self, distilled: Tensor, teacher_logits: Tensor) -> Tensor:
        """The loss against the teacher.

        The soft one is divided by images *and* classes, as in DeiT's code; the paper's equation is
        `classes` times as large.
        """
        if self.kind is Distillation.hard:
            return F.cross_entropy(distilled, teacher_logits.argmax(1))
        student, teacher = (
            F.log_softmax(logits / self.tau, dim=1) for logits in (distilled, teacher_logits)
        )
        return (
            F.kl_div(student, teacher, reduction="sum", log_target=True)
            * self.tau**2
            / distilled.numel()
        )
