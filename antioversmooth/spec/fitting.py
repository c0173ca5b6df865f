"""The training of a row on another data set: values that its size asks for, each with the reason.

Sources: DeiT's authors on small sets (github.com/facebookresearch/deit, issues 45 and 105); ViT
(Dosovitskiy et al. 2021, appendix B.1.1 and vit_jax/configs); Hugging Face's guides to fine-tuning
ViT (transformers, docs/source/en/tasks/image_classification.md and examples/pytorch/
image-classification); the square-root rule of Adam (Malladi et al. 2022, arXiv 2205.10287);
the released code's fine-tuning of CaiT. docs/data.md compares them with the values here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any

from antioversmooth.config import DataConfig, Distillation, Experiment, ScheduleUnit
from antioversmooth.errors import SpecError
from antioversmooth.methods.losses import LossMethod
from antioversmooth.spec.public_weights import MEAN, STD, public_weights

STEPS_OF_AN_EPOCH = 10
"""Least steps of an epoch: the batch is the largest power of two that leaves as many."""
LARGEST_BATCH = 256
STEPS = 500
"""Steps of fine-tuning, within the epochs below."""
EPOCHS = (10, 100)
"""Fewest and most epochs of fine-tuning."""
LR, LR_BATCH = 5.0e-5, 64
"""Peak learning rate of fine-tuning at a batch; at others by the square-root rule."""
SMALL = 10_000
"""Training images below which fine-tuning only crops and flips, and a training from scratch learns
little."""
REACH = 3.75
"""Sum of the learning rates of the released code's fine-tuning of CaiT, over its 300,000 steps."""
LARGEST_METHOD_LR = 0.03
"""That of the mini profile."""


@dataclass(frozen=True)
class Setting:
    """A value that a row says itself."""

    key: str
    """Within its section."""
    value: Any
    reason: str


@dataclass(frozen=True)
class Fitting:
    """The values of a row that fit a data set."""

    recipe: list[Setting]
    data: list[Setting]


def fit(row: Experiment, data: DataConfig, weights: str | None) -> Fitting:
    """The values by which a row differs on another data set.

    Args:
        row: On its own data.
        data: The other data.
        weights: `timm:<tag>` or `file:<path>`, to fine-tune; None: from scratch.

    Raises:
        SpecError: The row trains nothing, or learns from a teacher of other classes.
    """
    _require_training(row, data, weights)
    batch = _batch(row, data, LARGEST_BATCH if weights else row.recipe.global_batch)
    settings = _fine_tuning if weights else _from_scratch
    recipe = [*settings(row, data, batch)]
    if weights:
        start = "a classifier of other classes starts anew; file:PATH reads weights that are there"
        recipe.insert(0, Setting("init_from", weights, start))
    changed = [one for one in recipe if getattr(row.recipe, one.key) != one.value]
    normalised = [
        Setting(key, value, "what the weights were trained with, not that of the data")
        for key, value in (("mean", MEAN), ("std", STD))
        if weights
    ]
    return Fitting(changed, normalised)


def starting_weights(row: Experiment) -> str:
    """The weights that a row is fine-tuned from by default.

    Raises:
        SpecError: timm publishes none of its backbone.
    """
    if row.recipe.init_from and row.recipe.init_from.startswith("timm:"):
        return row.recipe.init_from
    tag = public_weights(row.model)
    if tag is None:
        raise SpecError(
            "timm has no public weights of this backbone; name some with --weights file:PATH, start"
            " from a row of 12 layers, or train --from-scratch (which needs many images)",
            where=row.name,
        )
    return f"timm:{tag}"


def _require_training(row: Experiment, data: DataConfig, weights: str | None) -> None:
    if row.recipe.epochs == 0:
        raise SpecError("trains nothing; start from a row that does, as deit_s12", where=row.name)
    if row.recipe.distillation is not Distillation.none:
        raise SpecError(
            "learns from a teacher, which knows other classes; start from a row without one",
            where=row.name,
        )
    if weights is None and row.recipe.init_from is not None:
        raise SpecError("starts from weights; start from a row that does not", where=row.name)
    if weights and data.in_channels != 3:
        raise SpecError(
            f"weights have three channels, and the data {data.name} has {data.in_channels}; set"
            " in_channels: 3 in its spec (with three values of mean and std), or --from-scratch",
            where=row.name,
        )


def _batch(row: Experiment, data: DataConfig, largest: int) -> int:
    """A power of two, or the groups that a method computes together."""
    batch = 2
    while 2 * batch <= min(largest, data.num_train // STEPS_OF_AN_EPOCH):
        batch *= 2
    method = row.model.sound_method
    group = method.inseparable if method else 1
    return group * ceil(batch / group)


def _fine_tuning(row: Experiment, data: DataConfig, batch: int) -> Iterator[Setting]:
    steps = max(1, data.num_train // batch)
    epochs = min(max(ceil(STEPS / steps), EPOCHS[0]), EPOCHS[1])
    peak = _rounded(LR * sqrt(batch / LR_BATCH))
    yield _batch_setting(data, batch)
    yield Setting(
        "epochs",
        epochs,
        f"{epochs * steps:,} steps; ViT fine-tunes on its small sets (Flowers, Pets) for {STEPS}",
    )
    yield Setting(
        "base_lr",
        peak * 512 / batch,
        f"peak {peak:.1e}: Hugging Face's guide has 5e-5 at 64 images, and its example"
        " 2e-5 at 8; by the square root of the batch between them",
    )
    yield Setting("min_lr", 1.0e-6, "below the peak; as the released code fine-tunes CaiT")
    yield Setting("schedule_unit", ScheduleUnit.step, "a short training")
    warmup = float(max(1, round(epochs / 10)))
    yield Setting("warmup_epochs", warmup, "a tenth, as in Hugging Face's guide")
    yield Setting("clip_grad", 1.0, "ViT's fine-tuning")
    yield from _regularisation(row, data)
    if data.num_train >= SMALL or _needs_cut_images(row):
        yield from _mixing_groups(row, batch)
    yield Setting("ema_decay", None, "an average over so few steps would be the initial weights")
    yield from _method_lr(row, peak, epochs * steps)


def _regularisation(row: Experiment, data: DataConfig) -> Iterator[Setting]:
    deit = "DeiT's authors leave it out on small sets (their issue 45)"
    yield Setting("drop_path", 0.0, deit)
    yield Setting("random_erasing", 0.0, deit)
    yield Setting("dropout", 0.0, "ViT's fine-tuning")
    yield Setting("attention_dropout", 0.0, "ViT's fine-tuning")
    if data.num_train >= SMALL:
        return
    short = "only crops and flips, as ViT and Hugging Face fine-tune; DeiT mixes, in 1000 epochs"
    if not _needs_cut_images(row):
        yield Setting("mix_prob", 0.0, short)
    yield Setting("rand_augment", None, short)
    yield Setting("color_jitter", 0.0, "it would take the place of rand_augment")
    yield _one_view(data)


def _needs_cut_images(row: Experiment) -> bool:
    """Whether the method's loss learns from images that CutMix cuts."""
    method = row.model.sound_method
    return isinstance(method, LossMethod) and method.classifies_patches


def _from_scratch(row: Experiment, data: DataConfig, batch: int) -> Iterator[Setting]:
    recipe = row.recipe
    steps = max(1, data.num_train // batch) * recipe.epochs
    peak = _rounded(recipe.lr * sqrt(batch / recipe.global_batch))
    yield _batch_setting(data, batch)
    yield Setting(
        "base_lr",
        peak * 512 / batch,
        f"peak {peak:.1e}: the row's, by the square root of the batch (Adam's rule)",
    )
    if recipe.mixes or recipe.dropout or recipe.attention_dropout:
        yield from _mixing_groups(row, batch)
    if data.num_train < SMALL:
        yield _one_view(data)
    if recipe.ema_decay is not None:
        decay = 1 - min(0.5, (1 - recipe.ema_decay) * row.total_steps / steps)
        yield Setting(
            "ema_decay",
            round(decay, 5),
            f"an average over the same share of the training, which has {steps:,} steps",
        )
    yield from _method_lr(row, peak, steps)


def _batch_setting(data: DataConfig, batch: int) -> Setting:
    steps = data.num_train // batch
    return Setting("global_batch", batch, f"{steps:,} steps an epoch of {data.num_train:,} images")


def _one_view(data: DataConfig) -> Setting:
    reason = f"an epoch shows all {data.num_train:,} images"
    return Setting("repeated_augmentation", 1, reason)


def _mixing_groups(row: Experiment, batch: int) -> Iterator[Setting]:
    """Groups that divide the batch."""
    group = row.recipe.mix_group
    if batch % group:
        yield Setting("mix_group", batch, "groups of views that mix divide the batch")


def _method_lr(row: Experiment, peak: float, steps: int) -> Iterator[Setting]:
    """A factor by which a method's parameters move as far as in a training that published gains."""
    if not row.trains_method_parameters:
        return
    wanted = min(REACH / (peak * steps / 2), LARGEST_METHOD_LR / peak)
    factor = _rounded(max(1.0, wanted))
    yield Setting(
        "method_lr_factor",
        factor,
        f"own choice: a method's parameters start at zero, and AdamW moves them by the learning"
        f" rate a step; so up to {_rounded(factor * peak * steps / 2):.2g} in {steps:,} steps (the"
        " released code fine-tunes CaiT for 300,000)",
    )


def _rounded(value: float) -> float:
    """The value with two digits."""
    return float(f"{value:.1e}")
