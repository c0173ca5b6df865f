"""The training part of a spec."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from antioversmooth.config.optimizers import BETAS, EPS, MOMENTUM, OPTIMIZERS
from antioversmooth.config.rules import Broken, Config, absolute, rule
from antioversmooth.constraints import (
    MISSING,
    above,
    ascending,
    at_least,
    at_most,
    below,
    between,
    each,
    matches,
    of_length,
    one_of,
    option,
)


class ScheduleUnit(Enum):
    """How often the learning rate changes."""

    epoch = "epoch"
    step = "step"
    step_late = "step_late"


class Distillation(Enum):
    """Target of distillation: the teacher's decision, or its softened probabilities."""

    none = "none"
    hard = "hard"
    soft = "soft"


class CutmixBox(Enum):
    """Sides of the box that CutMix cuts out: as long as drawn, or the even number below."""

    released = "released"
    timm = "timm"


class RepeatedViews(Enum):
    """Where the views of an image lie in a global batch: in mixing groups of their own, or side by
    side."""

    apart = "apart"
    together = "together"


class Precision(Enum):
    """Arithmetic of the forward and backward pass."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


_INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
"""Resampling that both Pillow and torchvision's kernels know."""
_NEAREST = "nearest"
FAST = "fast"
"""A value of `recipe.policy`."""
_RANDOM = "random"
"""Resampling of training views that is bilinear or bicubic, drawn anew for each."""
_AUGMENTATION = matches(
    r"rand(-(m|n|mmax|inc)\d+|-(mstd|p)\d+(\.\d+)?|-t\w+)*"
    r"|(augmix|original|originalr|v0|v0r|3a)(-[\w.]+)*",
    "as rand-m9-mstd0.5-inc1, of the sections m, n, p, mstd, mmax, inc and t",
)
"""The strings that timm reads; it refuses an unknown section late, or never."""
_ORIGIN = matches(r"(timm|file|run):.+", "timm:<tag>, file:<path> or run:<experiment>")


@dataclass
class RecipeConfig(Config, section="recipe"):
    """How a model is trained and evaluated. Batch and learning rate are of the optimizer step, over
    all devices."""

    epochs: int = option(MISSING, between(0, 1_000_000))
    """Passes over the training set; 0 evaluates `init_from` and trains nothing."""
    global_batch: int = option(MISSING, at_least(1))
    """Samples per optimizer step, over all devices and accumulation steps."""
    base_lr: float = option(MISSING, above(0), at_most(1000))
    """Learning rate for 512 samples a step; the run uses base_lr * global_batch / 512 (linear
    scaling rule)."""
    min_lr: float = option(1.0e-5, at_least(0), identity=lambda recipe: recipe.schedule != "step")
    """Learning rate at the end of the schedule, at most the peak; absolute unless
    `scale_all_lr`."""
    warmup_lr: float = option(1.0e-6, at_least(0), identity=lambda recipe: recipe.warmup_epochs > 0)
    """Learning rate at the start of the warm-up, at most the peak; absolute unless
    `scale_all_lr`."""
    scale_all_lr: bool = option(False, identity=lambda recipe: recipe.lr_scale != 1)
    """Apply the linear scaling rule to `min_lr` and `warmup_lr` too, as Swin's code does."""
    warmup_epochs: float = option(5.0, at_least(0))
    """Epochs of linear warm-up, part of `epochs`."""
    schedule_unit: ScheduleUnit = ScheduleUnit.epoch
    """epoch: constant within an epoch (DeiT's code); step: moves with every step; step_late: the
    same, one step later (Swin's code, which sets the rate after the step)."""
    schedule: str = option(
        "cosine", one_of("cosine", "tanh", "linear", "step"), identity_default="cosine"
    )
    """Fall of the learning rate behind the warm-up: cosine, tanh and linear end at `min_lr`; step
    multiplies it by `decay_rate` every `decay_epochs`."""
    decay_epochs: float = option(
        30.0,
        above(0),
        identity=lambda recipe: recipe.schedule == "step",
        identity_default=30.0,
    )
    """step: epochs from one fall to the next, counted from the start of the run."""
    decay_rate: float = option(
        0.1,
        above(0),
        at_most(1),
        identity=lambda recipe: recipe.schedule == "step",
        identity_default=0.1,
    )
    """step: factor of a fall."""
    method_lr_factor: float = option(
        1.0,
        above(0),
        at_most(1_000_000),
        acts_in=lambda experiment: experiment.trains_method_parameters,
        identity_default=1.0,
    )
    """Factor on the learning rate of the parameters that a method added, at every step. 1 in every
    full-size recipe; a short training needs more, since AdamW moves a parameter by about the
    learning rate a step."""
    optimizer: str = option("adamw", one_of(*OPTIMIZERS), identity_default="adamw")
    """AdamW, or another optimizer, by timm's name; `sgd` is Nesterov's, `momentum` the classical
    one."""
    weight_decay: float = option(0.05, between(0, 1000))
    """AdamW's decoupled weight decay, or that of another optimizer as it defines it; none on
    biases, norms, embeddings and the scalings."""
    betas: list[float] = option(
        [0.9, 0.999],
        of_length(2),
        each(at_least(0), below(1)),
        identity=lambda recipe: recipe.optimizer_reads(BETAS),
    )
    """Running-average coefficients, of optimizers that have two."""
    eps: float = option(1.0e-8, above(0), identity=lambda recipe: recipe.optimizer_reads(EPS))
    """Term of the denominator, of optimizers that have one."""
    momentum: float = option(
        0.9,
        at_least(0),
        below(1),
        identity=lambda recipe: recipe.optimizer_reads(MOMENTUM),
        identity_default=0.9,
    )
    """Momentum of optimizers that have one coefficient, as `sgd`."""
    clip_grad: float | None = option(None, above(0))
    """Largest L2 norm of the whole gradient; null: no clipping."""
    label_smoothing: float = option(0.1, at_least(0), below(1))
    """Probability mass spread over all classes."""
    dropout: float = option(0.0, at_least(0), below(1))
    """Dropout after position embedding, attention projection and in MLPs (timm's drop_rate, DeiT's
    --drop)."""
    attention_dropout: float = option(0.0, at_least(0), below(1))
    """Dropout on attention weights; above 0 AttnScale takes its explicit form."""
    drop_path: float = option(0.1, at_least(0), below(1))
    """Stochastic depth of the last block, rising linearly from 0 (CaiT: the same in every
    block)."""
    mixup: float = option(0.8, at_least(0), identity=lambda recipe: recipe.mixes)
    """Alpha of Mixup's Beta distribution; 0: off."""
    cutmix: float = option(
        1.0, at_least(0), identity=lambda recipe: recipe.mixes and recipe.cutmix_minmax is None
    )
    """Alpha of CutMix's Beta distribution; 0: off."""
    cutmix_minmax: list[float] | None = option(
        None,
        of_length(2),
        each(between(0, 1)),
        ascending(),
        identity=lambda recipe: recipe.mixes,
        identity_default=None,
    )
    """Shortest and longest side of CutMix's box, as shares of the image's; each side is drawn from
    between them. It turns CutMix on, in place of the Beta distribution of `cutmix`; null: off."""
    mix_prob: float = option(
        1.0, between(0, 1), identity=lambda recipe: recipe.mixes, without_effect=0.0
    )
    """Probability that a mixing group is mixed at all."""
    mix_switch_prob: float = option(
        0.5,
        between(0, 1),
        identity=lambda recipe: recipe.mixes and recipe.mixup > 0 and recipe.has_cutmix,
    )
    """Probability of CutMix where Mixup and CutMix are both on."""
    mix_mode: str = option(
        "batch",
        one_of("batch", "pair", "elem"),
        identity=lambda recipe: recipe.mixes,
        identity_default="batch",
    )
    """Images that share a draw of Mixup or CutMix: batch: a mixing group; pair: the two that are
    mixed with each other; elem: none, each image has its own. Partners are those of the group."""
    cutmix_box: CutmixBox = option(
        CutmixBox.released,
        identity=lambda recipe: recipe.cuts and recipe.cutmix_minmax is None,
        identity_default="timm",
    )
    """released: an odd side of CutMix's box loses a row or column, as in timm 0.4.12, which the
    released code uses; timm: it does not, as in timm now."""
    mix_group: int = option(
        32,
        identity=lambda recipe: recipe.draws_by_group,
    )
    """Consecutive samples of the global batch that mix among themselves, with one Mixup or CutMix
    draw (`mix_mode`); masks of dropout and contents of erased rectangles are drawn for as many.
    Fixed in samples, so that the result does not depend on how many devices the batch is dealt
    to."""
    rand_augment: str | None = option("rand-m9-mstd0.5-inc1", _AUGMENTATION)
    """timm's auto-augment string; null: off."""
    rand_augment_interpolation: str | None = option(
        None,
        one_of(*_INTERPOLATIONS),
        identity=lambda recipe: (
            recipe.rand_augment is not None
            and recipe.rand_augment_interpolation
            != (_NEAREST if recipe.policy == FAST else recipe.interpolation)
        ),
        identity_default=None,
    )
    """Resampling in `rand_augment`'s rotations, shears and translations; null: as `interpolation`,
    or nearest with `policy: fast`. nearest, the default of torchvision's RandAugment, makes views
    in three quarters of the time, and is another recipe."""
    policy: str = option(
        "exact",
        one_of("exact", FAST),
        acts_in=lambda experiment: experiment.decodes_fast or experiment.moves_fast,
        identity_default="exact",
    )
    """Pixels of training views. exact: of timm's transforms, whatever makes them. fast: near
    these, in less time: the
    colours of JPEGs are decoded without smoothing, and JPEGs at a half, a quarter or an eighth
    of their size where a crop then has twice the pixels of a view along each side or more;
    `rand_augment` moves the nearest pixels. docs/data.md has the difference in grey levels."""
    color_jitter: float = option(
        0.4, at_least(0), identity=lambda recipe: "3a" in (recipe.rand_augment or "3a")
    )
    """Strength of colour jitter; used where `rand_augment` is null."""
    hflip: float = option(0.5, between(0, 1))
    """Probability of a horizontal flip."""
    crop: str = option("resized", one_of("resized", "padded"), identity_default="resized")
    """resized: RandomResizedCrop, and evaluation of a resized centre. padded: images at their own
    size, which is the model's: training crops them out of a frame of 4 black pixels, evaluation
    takes them as they are (the released code below 33 pixels)."""
    crop_scale: list[float] = option(
        [0.08, 1.0],
        of_length(2),
        each(above(0), at_most(1)),
        ascending(),
        identity=lambda recipe: recipe.resizes,
    )
    """Range of the area of RandomResizedCrop; [1, 1]: the whole image, resized."""
    crop_ratio: list[float] = option(
        [0.75, 1.3333333333333333],
        of_length(2),
        each(above(0)),
        ascending(),
        identity=lambda recipe: recipe.resizes,
    )
    """Range of the aspect ratio of RandomResizedCrop."""
    random_erasing: float = option(0.25, between(0, 1))
    """Probability of erasing rectangles of a training view."""
    erasing_mode: str = option(
        "pixel",
        one_of("pixel", "rand", "const"),
        identity=lambda recipe: recipe.random_erasing > 0,
        identity_default="pixel",
    )
    """Content of a rectangle: pixel: a normal number for each pixel; rand: one colour of normal
    numbers; const: the mean of the data."""
    erasing_count: int = option(
        1, at_least(1), identity=lambda recipe: recipe.random_erasing > 0, identity_default=1
    )
    """Most rectangles of a view; how many is drawn from 1 to this, and they share the area."""
    repeated_augmentation: int = option(1, at_least(1))
    """Views of each drawn image within an epoch; an epoch stays num_train views long."""
    repeated_views: RepeatedViews = option(
        RepeatedViews.apart, identity=lambda recipe: recipe.deals, identity_default="together"
    )
    """apart: the views of an image are dealt to different mixing groups, so that each has another
    draw and none is mixed with its own image; together: they lie side by side, mostly in one
    group."""
    interpolation: str = option("bicubic", one_of(*_INTERPOLATIONS, _RANDOM))
    """Resampling for training crops and evaluation; random: bilinear or bicubic, drawn for each
    crop (then `eval_interpolation` must be given)."""
    eval_interpolation: str | None = option(
        None,
        one_of(*_INTERPOLATIONS),
        identity=lambda recipe: (
            recipe.resizes and recipe.eval_interpolation != recipe.interpolation
        ),
        identity_default=None,
    )
    """Resampling in evaluation; null: as `interpolation`. The released DeiT code evaluates with
    bicubic, whatever it trains with."""
    eval_crop: float = option(0.875, above(0), at_most(1), identity=lambda recipe: recipe.resizes)
    """Evaluation: image_size / eval_crop is the short side before the centre crop of image_size."""
    ema_decay: float | None = option(None, above(0), below(1))
    """Decay per step of the moving average of the weights; null: no average."""
    precision: Precision = Precision.float32
    """Arithmetic on a GPU; on a CPU always float32."""
    init_from: str | None = option(None, _ORIGIN, path=True)
    """Initial weights: `timm:<tag>`, `file:<path>`, `run:<experiment>` (of the same seed);
    null: random."""
    init_allow_missing: list[str] = option([], identity=lambda recipe: recipe.init_from is not None)
    """Patterns (fnmatch) of parameters that `init_from` may lack where it is trained further, in
    addition to the scalings."""
    distillation: Distillation = option(Distillation.none, identity_default="none")
    """none; hard: cross entropy against the teacher's decision; soft: against its probabilities
    (both as DeiT's)."""
    teacher: str | None = option(None, _ORIGIN, identity_default=None, path=True)
    """The frozen teacher: `timm:<tag>`, `run:<experiment>` (of the same seed), or
    `file:<path>`, which holds weights of `teacher_model`."""
    teacher_model: str | None = option(None, identity_default=None)
    """timm's name of the architecture behind `teacher: file:<path>`."""
    distillation_alpha: float = option(
        0.5,
        between(0, 1),
        identity=lambda recipe: recipe.distillation is not Distillation.none,
        identity_default=0.5,
    )
    """Weight of the teacher's part of the loss; the labels' part has the rest."""
    distillation_tau: float = option(
        1.0,
        above(0),
        identity=lambda recipe: recipe.distillation is Distillation.soft,
        identity_default=1.0,
    )
    """soft: temperature that both models' logits are divided by."""

    def normalise(self) -> None:
        for key in ("init_from", "teacher"):
            kind, _, path = (getattr(self, key) or "").partition(":")
            if kind == "file" and path:
                setattr(self, key, f"file:{absolute(path)}")

    @rule("epochs", "init_from")
    def _something_to_evaluate(self) -> Iterator[Broken]:
        if self.epochs == 0 and self.init_from is None:
            expected = "0 epochs only evaluate, and need recipe.init_from"
            yield Broken("epochs", 0, expected, also=("init_from",))

    @rule("warmup_epochs", "epochs")
    def _warm_up_within_the_training(self) -> Iterator[Broken]:
        if self.warmup_epochs > self.epochs:
            expected = f"between 0 and recipe.epochs = {self.epochs}"
            yield Broken("warmup_epochs", self.warmup_epochs, expected, also=("epochs",))

    @rule(
        "min_lr",
        "warmup_lr",
        "base_lr",
        "global_batch",
        "scale_all_lr",
        "schedule",
        "warmup_epochs",
        "epochs",
    )
    def _rates_up_to_the_peak(self) -> Iterator[Broken]:
        peak = "recipe.base_lr" if self.scale_all_lr else "recipe.base_lr * global_batch / 512"
        most = self.base_lr if self.scale_all_lr else self.lr
        acts = {"min_lr": self.schedule != "step", "warmup_lr": self.warmup_epochs > 0}
        for key, value in (("min_lr", self.min_lr), ("warmup_lr", self.warmup_lr)):
            # a constant rate may be written with other digits than the product has
            if self.epochs > 0 and acts[key] and value > most * (1 + 1e-6):
                expected = f"at most the peak, {peak} = {most:g}"
                yield Broken(key, value, expected, also=("base_lr", "global_batch"))

    @rule("mix_group", "global_batch", "mix_prob", "mixup", "cutmix", "cutmix_minmax")
    def _mixing_groups_divide_the_batch(self) -> Iterator[Broken]:
        group = self.mix_group
        if self.mixes and not (group > 0 and group % 2 == 0 and self.global_batch % group == 0):
            yield Broken("mix_group", group, self._groups_that_divide(), also=("global_batch",))

    def _groups_that_divide(self) -> str:
        """The right values of `mix_group`, in words, with the nearest ones."""
        batch, group = self.global_batch, self.mix_group
        expected = f"an even divisor of recipe.global_batch = {batch}"
        if batch % 2:
            return f"{expected}, which is odd and has none; choose an even recipe.global_batch"
        divisors = [even for even in range(2, batch + 1, 2) if batch % even == 0]
        below = [even for even in divisors if even < group][-1:]
        above = [even for even in divisors if even > group][:1]
        return f"{expected}, such as {' or '.join(map(str, below + above))}"

    @rule("cutmix_minmax")
    def _a_range_of_sides(self) -> Iterator[Broken]:
        if self.cutmix_minmax and self.cutmix_minmax[0] == self.cutmix_minmax[1]:
            yield Broken("cutmix_minmax", self.cutmix_minmax, "two different shares")

    @rule("distillation", "teacher")
    def _a_teacher_to_distil_from(self) -> Iterator[Broken]:
        distils = self.distillation is not Distillation.none
        if distils is not (self.teacher is not None):
            needs = "needs a teacher" if distils else "has no teacher"
            expected = f"recipe.distillation = {self.distillation.value} {needs}"
            yield Broken("teacher", self.teacher, expected, also=("distillation",))

    @rule("distillation", "epochs")
    def _distillation_needs_training(self) -> Iterator[Broken]:
        if self.epochs == 0 and self.distillation is not Distillation.none:
            expected = "none: nothing is learnt in recipe.epochs = 0"
            yield Broken("distillation", self.distillation.value, expected, also=("epochs",))

    @rule("teacher", "teacher_model")
    def _a_model_for_a_teacher_in_a_file(self) -> Iterator[Broken]:
        from_file = (self.teacher or "").startswith("file:")
        if from_file is not (self.teacher_model is not None):
            expected = "timm's name of the model, where recipe.teacher is a file, and only there"
            yield Broken("teacher_model", self.teacher_model, expected, also=("teacher",))

    @rule("interpolation", "eval_interpolation")
    def _a_resampling_of_evaluation(self) -> Iterator[Broken]:
        if self.interpolation == _RANDOM and self.eval_interpolation is None:
            expected = "nearest, bilinear or bicubic; random needs recipe.eval_interpolation"
            yield Broken("interpolation", _RANDOM, expected, also=("eval_interpolation",))

    def optimizer_reads(self, name: str) -> bool:
        """Whether the optimizer has an option."""
        return name in OPTIMIZERS[self.optimizer]

    @property
    def resizes(self) -> bool:
        """Whether images are resized to the model's input."""
        return self.crop == "resized"

    @property
    def moves_by(self) -> str | None:
        """Resampling in `rand_augment`; None: as `interpolation`."""
        default = _NEAREST if self.policy == FAST else None
        return self.rand_augment_interpolation or default

    @property
    def has_cutmix(self) -> bool:
        """Whether CutMix is one of the two that mix."""
        return self.cutmix > 0 or self.cutmix_minmax is not None

    @property
    def mixes(self) -> bool:
        """Whether Mixup or CutMix is on."""
        return self.mix_prob > 0 and (self.mixup > 0 or self.has_cutmix)

    @property
    def draws_by_group(self) -> bool:
        """Whether `mix_group` tells runs apart, since something is drawn for a group."""
        # with the default, runs that draw contents of rectangles alone keep the id that they had
        fills = self.random_erasing > 0 and self.erasing_mode != "const" and self.mix_group != 32
        return self.mixes or self.dropout > 0 or self.attention_dropout > 0 or fills

    @property
    def cuts(self) -> bool:
        """Whether CutMix is on in training."""
        return self.epochs > 0 and self.mixes and self.has_cutmix

    @property
    def deals(self) -> bool:
        """Whether training mixes images that have several views in a batch."""
        return self.epochs > 0 and self.mixes and self.repeated_augmentation > 1

    @property
    def lr(self) -> float:
        """Peak learning rate of the run."""
        return self.base_lr * self.lr_scale

    @property
    def lr_scale(self) -> float:
        """Factor of the linear scaling rule."""
        return self.global_batch / 512
