"""The training part of a spec."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from enum import Enum

from antioversmooth.config.checks import MISSING, Require, absolute, rules


class ScheduleUnit(Enum):
    """How often the learning rate moves."""

    epoch = "epoch"
    step = "step"


class Distillation(Enum):
    """What a model learns from a teacher: its decision, or its softened probabilities."""

    none = "none"
    hard = "hard"
    soft = "soft"


class Precision(Enum):
    """Arithmetic of the forward and backward pass."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


_INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
"""Resampling that both Pillow and torchvision's kernels know."""
_AUGMENTATION = r"rand(-(m|n|mmax|inc)\d+|-(mstd|p)\d+(\.\d+)?|-t\w+)*|(augmix|original|originalr|v0|v0r|3a)(-[\w.]+)*"
"""What timm reads; of a section that it does not know it says so late, or nothing at all."""


@dataclass
class RecipeConfig:
    """How a model is trained and evaluated. Batch and learning rate are of the optimizer step, over
    all devices."""

    epochs: int = MISSING
    """Passes over the training set; 0 evaluates `init_from` and trains nothing."""
    global_batch: int = MISSING
    """Samples per optimizer step, over all devices and accumulation steps."""
    base_lr: float = MISSING
    """Learning rate for 512 samples a step; the run uses base_lr * global_batch / 512 (linear
    scaling rule)."""
    min_lr: float = 1.0e-5
    """Learning rate at the end of the cosine; absolute unless `scale_all_lr`."""
    warmup_lr: float = 1.0e-6
    """Learning rate at the start of the warm-up; absolute unless `scale_all_lr`."""
    scale_all_lr: bool = False
    """Apply the linear scaling rule to `min_lr` and `warmup_lr` too, as Swin's code does."""
    warmup_epochs: float = 5.0
    """Epochs of linear warm-up, part of `epochs`."""
    schedule_unit: ScheduleUnit = ScheduleUnit.epoch
    """epoch: constant within an epoch (DeiT's code); step: moves with every step (Swin's code)."""
    weight_decay: float = 0.05
    """AdamW's decoupled weight decay; none on biases, norms, embeddings and the scalings."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    """AdamW's running-average coefficients."""
    eps: float = 1.0e-8
    """AdamW's denominator term."""
    clip_grad: float | None = None
    """Largest L2 norm of the whole gradient; null: no clipping."""
    label_smoothing: float = 0.1
    """Probability mass spread over all classes."""
    dropout: float = 0.0
    """Dropout after position embedding, attention projection and in MLPs (timm's drop_rate, DeiT's
    --drop)."""
    attention_dropout: float = 0.0
    """Dropout on attention weights; above 0 AttnScale takes its explicit form."""
    drop_path: float = 0.1
    """Stochastic depth of the last block, rising linearly from 0 (CaiT: the same in every
    block)."""
    mixup: float = 0.8
    """Alpha of Mixup's Beta distribution; 0: off."""
    cutmix: float = 1.0
    """Alpha of CutMix's Beta distribution; 0: off."""
    mix_prob: float = 1.0
    """Probability that a mixing group is mixed at all."""
    mix_switch_prob: float = 0.5
    """Probability of CutMix where Mixup and CutMix are both on."""
    mix_group: int = 32
    """Consecutive samples of the global batch that share one Mixup or CutMix draw and mix among
    themselves; masks of dropout are drawn for as many. Fixed in samples, so that the result does
    not depend on how many devices the batch is dealt to."""
    rand_augment: str | None = "rand-m9-mstd0.5-inc1"
    """timm's auto-augment string; null: off."""
    rand_augment_interpolation: str | None = field(default=None, metadata={"neutral": None})
    """Resampling in `rand_augment`'s rotations, shears and translations; null: as `interpolation`.
    nearest, the default of torchvision's RandAugment, makes views in three quarters of the time,
    and is another recipe."""
    color_jitter: float = 0.4
    """Strength of colour jitter; used where `rand_augment` is null."""
    hflip: float = 0.5
    """Probability of a horizontal flip."""
    crop_scale: list[float] = field(default_factory=lambda: [0.08, 1.0])
    """Range of the area of RandomResizedCrop; [1, 1]: the whole image, resized."""
    crop_ratio: list[float] = field(default_factory=lambda: [0.75, 1.3333333333333333])
    """Range of the aspect ratio of RandomResizedCrop."""
    random_erasing: float = 0.25
    """Probability of erasing a rectangle (pixel mode)."""
    repeated_augmentation: int = 1
    """Views of each drawn image within an epoch; an epoch stays num_train views long."""
    interpolation: str = "bicubic"
    """Resampling for training crops and evaluation."""
    eval_crop: float = 0.875
    """Evaluation: image_size / eval_crop is the short side before the centre crop of image_size."""
    ema_decay: float | None = None
    """Decay per step of the moving average of the weights; null: none is kept."""
    precision: Precision = Precision.float32
    """Arithmetic on a GPU; on a CPU always float32."""
    init_from: str | None = None
    """Where weights start: `timm:<tag>`, `file:<path>`, `run:<experiment>` (of the same seed);
    null: random."""
    init_allow_missing: list[str] = field(default_factory=list)
    """Patterns (fnmatch) of parameters that `init_from` need not hold, besides the scalings."""
    distillation: Distillation = field(default=Distillation.none, metadata={"neutral": "none"})
    """none; hard: cross entropy against the teacher's decision; soft: against its probabilities
    (both as DeiT's)."""
    teacher: str | None = field(default=None, metadata={"neutral": None})
    """Whom to learn from, frozen: `timm:<tag>`, `run:<experiment>` (of the same seed), or
    `file:<path>`, which holds weights of `teacher_model`."""
    teacher_model: str | None = field(default=None, metadata={"neutral": None})
    """timm's name of the architecture behind `teacher: file:<path>`."""
    distillation_alpha: float = field(default=0.5, metadata={"neutral": 0.5})
    """Weight of the teacher's part of the loss; the labels' part has the rest."""
    distillation_tau: float = field(default=1.0, metadata={"neutral": 1.0})
    """soft: temperature that both models' logits are divided by."""

    def __post_init__(self) -> None:
        with rules() as require:
            require(self.epochs >= 0, "recipe.epochs", self.epochs, "0 or more")
            require(
                self.epochs > 0 or self.init_from is not None,
                "recipe.epochs",
                self.epochs,
                "0 epochs only evaluate, and need recipe.init_from",
            )
            require(
                self.global_batch > 0,
                "recipe.global_batch",
                self.global_batch,
                "a positive whole number",
            )
            require(
                0 <= self.warmup_epochs <= max(self.epochs, 0),
                "recipe.warmup_epochs",
                self.warmup_epochs,
                f"between 0 and recipe.epochs = {self.epochs}",
            )
            self._require_sound_optimizer(require)
            for key in ("label_smoothing", "dropout", "attention_dropout", "drop_path"):
                require(
                    0 <= getattr(self, key) < 1,
                    f"recipe.{key}",
                    getattr(self, key),
                    "at least 0 and below 1",
                )
            self._require_sound_augmentation(require)
            require(
                self.ema_decay is None or 0 < self.ema_decay < 1,
                "recipe.ema_decay",
                self.ema_decay,
                "between 0 and 1, or null",
            )
            if self.mixes:
                require(
                    self.mix_group > 0
                    and self.mix_group % 2 == 0
                    and self.global_batch % max(1, self.mix_group) == 0,
                    "recipe.mix_group",
                    self.mix_group,
                    f"an even divisor of recipe.global_batch = {self.global_batch}",
                )
            for key in ("init_from", "teacher"):
                self._settle_origin(require, key)
            self._require_sound_distillation(require)

    def _require_sound_optimizer(self, require: Require) -> None:
        for key in ("base_lr", "eps"):
            require(getattr(self, key) > 0, f"recipe.{key}", getattr(self, key), "above 0")
        for key in ("min_lr", "warmup_lr", "weight_decay"):
            require(getattr(self, key) >= 0, f"recipe.{key}", getattr(self, key), "0 or more")
        two = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        require(two, "recipe.betas", list(self.betas), "two numbers, each at least 0 and below 1")
        require(
            self.clip_grad is None or self.clip_grad > 0,
            "recipe.clip_grad",
            self.clip_grad,
            "above 0, or null",
        )

    def _require_sound_augmentation(self, require: Require) -> None:
        for key in ("mix_prob", "mix_switch_prob", "hflip", "random_erasing"):
            require(
                0 <= getattr(self, key) <= 1,
                f"recipe.{key}",
                getattr(self, key),
                "a probability, 0 to 1",
            )
        for key in ("mixup", "cutmix", "color_jitter"):
            require(getattr(self, key) >= 0, f"recipe.{key}", getattr(self, key), "0 or more")
        for key, highest, right in (
            ("crop_scale", 1.0, "two fractions"),
            ("crop_ratio", math.inf, "two ratios"),
        ):
            value = list(getattr(self, key))
            ordered = len(value) == 2 and 0 < value[0] <= value[1] <= highest
            require(ordered, f"recipe.{key}", value, f"{right} above 0, the lower one first")
        require(
            self.rand_augment is None or re.fullmatch(_AUGMENTATION, self.rand_augment) is not None,
            "recipe.rand_augment",
            self.rand_augment,
            "as rand-m9-mstd0.5-inc1, of the sections m, n, p, mstd, mmax, inc and t; or null",
        )
        for key in ("interpolation", "rand_augment_interpolation"):
            fits = getattr(self, key) in (
                *_INTERPOLATIONS,
                *([None] if key != "interpolation" else []),
            )
            require(
                fits, f"recipe.{key}", getattr(self, key), f"one of {', '.join(_INTERPOLATIONS)}"
            )
        require(
            0 < self.eval_crop <= 1, "recipe.eval_crop", self.eval_crop, "above 0 and at most 1"
        )
        views = self.repeated_augmentation
        require(views >= 1, "recipe.repeated_augmentation", views, "1 or more")

    def _settle_origin(self, require: Require, key: str) -> None:
        """Weights from elsewhere are named in one of three ways; a path becomes one that every
        process can open."""
        origin: str | None = getattr(self, key)
        if origin is None:
            return
        kind, _, path = origin.partition(":")
        right = "timm:<tag>, file:<path> or run:<experiment>"
        require(kind in ("timm", "file", "run") and bool(path), f"recipe.{key}", origin, right)
        if kind == "file" and path:
            setattr(self, key, f"file:{absolute(path)}")

    def _require_sound_distillation(self, require: Require) -> None:
        distils = self.distillation is not Distillation.none
        require(
            self.teacher is not None if distils else self.teacher is None,
            "recipe.teacher",
            self.teacher,
            f"recipe.distillation = {self.distillation.value} {'needs' if distils else 'has'} "
            f"{'a' if distils else 'no'} teacher",
        )
        require(
            self.epochs > 0 or not distils,
            "recipe.distillation",
            self.distillation.value,
            "nothing is learnt in recipe.epochs = 0",
        )
        from_file = (self.teacher or "").startswith("file:")
        require(
            (self.teacher_model is not None) is from_file,
            "recipe.teacher_model",
            self.teacher_model,
            "timm's name of the model, where recipe.teacher is a file, and only there",
        )
        for key, sound, right in (
            ("distillation_alpha", 0 <= self.distillation_alpha <= 1, "a weight, 0 to 1"),
            ("distillation_tau", self.distillation_tau > 0, "a temperature above 0"),
        ):
            require(sound, f"recipe.{key}", getattr(self, key), right)

    @property
    def mixes(self) -> bool:
        """Whether Mixup or CutMix is on."""
        return self.mix_prob > 0 and (self.mixup > 0 or self.cutmix > 0)

    @property
    def lr(self) -> float:
        """Peak learning rate of the run."""
        return self.base_lr * self.lr_scale

    @property
    def lr_scale(self) -> float:
        """Factor of the linear scaling rule."""
        return self.global_batch / 512
