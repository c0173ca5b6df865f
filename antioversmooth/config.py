"""What a spec says: one dataclass per concern, a docstring under each field with its unit and the "of what".

Values live in YAML under `experiments/`; here are the types, and the rules that a single config can check by itself.
A rule that fails raises `SpecError` with the dotted key and the value, and says what would be right.

Field metadata decides what identifies a run (see `runs.identity`):
    identity=False   where and how it runs, not what it computes: left out.
    neutral=value    the field was added after runs existed: left out while it has this value, so that those
                     runs keep their identity. The value is that of the day it was added, whatever the default
                     becomes later.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from antioversmooth.errors import SpecError

MISSING: Any = "???"
"""OmegaConf's mark of a value that a spec must give; written out, since the models are used without OmegaConf too."""


def absolute(path: str) -> str:
    """The path as every process can open it: a run is resumed from other folders than it was launched in."""
    return str(Path(path).expanduser().absolute())


class Family(Enum):
    """A timm backbone family that the paper treats."""

    vit = "vit"
    cait = "cait"
    swin = "swin"


class Scaling(Enum):
    """Which of the paper's two additions a model carries."""

    none = "none"
    attnscale = "attnscale"
    featscale = "featscale"


class ScalingVariant(Enum):
    """Which form of FeatScale: the paper's (1 + s, 1 + t), or the released DeiT code's (1 + 2s, 1 + 2t)."""

    released = "released"
    paper = "paper"


class Initialisation(Enum):
    """How the weights of linear layers start."""

    timm = "timm"
    xavier = "xavier"


class DataSource(Enum):
    """How the images are stored."""

    image_folder = "image_folder"
    tar = "tar"
    webdataset = "webdataset"
    huggingface = "huggingface"
    cifar100 = "cifar100"
    inaturalist = "inaturalist"
    mnist5k = "mnist5k"
    digits = "digits"


class ScheduleUnit(Enum):
    """How often the learning rate moves."""

    epoch = "epoch"
    step = "step"


class ProcessStarter(Enum):
    """Who starts the processes of a SLURM job on its nodes."""

    srun = "srun"
    torchrun = "torchrun"


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


class Compiler(Enum):
    """Backend of torch.compile; aot_eager traces as inductor does, and generates no code."""

    none = "none"
    inductor = "inductor"
    aot_eager = "aot_eager"


class PanelKind(Enum):
    """What a panel of a figure draws; the measures behind it are those of `analysis.record.MEASURES`."""

    token_similarity = "token_similarity"
    token_similarity_off_diagonal = "token_similarity_off_diagonal"
    token_similarity_difference = "token_similarity_difference"
    attention_similarity = "attention_similarity"
    attention_similarity_off_diagonal = "attention_similarity_off_diagonal"
    energy = "energy"
    attention_spectrum = "attention_spectrum"
    feature_spectrum = "feature_spectrum"
    decay = "decay"
    head_bound = "head_bound"
    layer_bound = "layer_bound"
    residual_bound = "residual_bound"
    attention_scales = "attention_scales"
    feature_scales = "feature_scales"


def off_identity(default: Any = MISSING) -> Any:
    """A field that says where or how a run runs, and so does not identify it."""
    return field(default=default, metadata={"identity": False})


CONFIDENCES = ("V", "Q", "C", "M", "D")
"""V: seen verbatim; Q: quoted by a named follow-up; C: computed; M: from memory; D: derived."""


class Require(Protocol):
    """Says one rule of a config: the dotted key, its value, and what would be right where the condition is false."""

    def __call__(self, condition: bool, key: str, value: object, right: str) -> None: ...


@contextmanager
def rules() -> Iterator[Require]:
    """Collects the rules that a config breaks, the first one of each key, and raises them together at its end.

    Raises:
        SpecError: One for each broken rule in `parts`.
    """
    broken: dict[str, SpecError] = {}

    def require(condition: bool, key: str, value: object, right: str) -> None:
        if not condition:
            broken.setdefault(key, SpecError(f"{value!r} is not possible: {right}", where=key))

    yield require
    if broken:
        raise SpecError.together(list(broken.values()))


@dataclass
class ModelConfig:
    """A timm backbone at a stated size, and the scaling placed into it."""

    family: Family = MISSING
    """vit (DeiT), cait or swin."""
    depth: int = MISSING
    """Self-attention blocks; for Swin the sum over its stages. CaiT's class-attention layers are not counted."""
    embed_dim: int = MISSING
    """Channels of a token; for Swin in the first stage (each later stage doubles it)."""
    num_heads: int = MISSING
    """Attention heads a block; for Swin in the first stage (each later stage doubles it)."""
    image_size: int = MISSING
    """Pixels along one side of the square input."""
    patch_size: int = MISSING
    """Pixels along one side of a patch."""
    mlp_ratio: float = 4.0
    """Hidden channels of an MLP, as a multiple of `embed_dim`."""
    stage_depths: list[int] = field(default_factory=list)
    """Swin: blocks per stage; they sum to `depth`."""
    window_size: int = 7
    """Swin: tokens along one side of an attention window."""
    class_depth: int = 2
    """CaiT: class-attention layers behind the self-attention blocks; never scaled."""
    layer_scale_init: float = 1.0e-5
    """CaiT: start of LayerScale's per-channel factors."""
    init: Initialisation = Initialisation.timm
    """timm: truncated normal of std 0.02. xavier: Xavier uniform, for narrow models that should learn in minutes."""
    position_embedding_std: float = 0.02
    """Standard deviation of the position embedding at the start (ViT and CaiT)."""
    class_token_std: float | None = field(default=None, metadata={"neutral": None})
    """ViT: standard deviation of the class token at the start, 0.02 in the released code; none: timm's 1e-6."""
    scaling: Scaling = Scaling.none
    """none, attnscale or featscale."""
    scaling_variant: ScalingVariant = ScalingVariant.released
    """released follows the released code of each family, paper its equations; they differ for DeiT's FeatScale only."""
    class_token_in_mean: bool = True
    """ViT: whether the DC part is the mean over class and patch tokens (released) or over patch tokens only."""
    mask_aware: bool = False
    """Swin AttnScale: leave pairs that a shifted window masks out of the mean (released code: included)."""
    distillation_token: bool = field(default=False, metadata={"neutral": False})
    """ViT: a distillation token beside the class token, each with a classifier; in evaluation they are averaged."""

    def __post_init__(self) -> None:
        with rules() as require:
            for key in ("depth", "embed_dim", "num_heads", "image_size", "patch_size"):
                require(getattr(self, key) > 0, f"model.{key}", getattr(self, key), "a positive whole number")
            require(
                self.embed_dim % max(1, self.num_heads) == 0,
                "model.num_heads",
                self.num_heads,
                f"a divisor of model.embed_dim = {self.embed_dim}",
            )
            require(
                self.image_size % max(1, self.patch_size) == 0,
                "model.image_size",
                self.image_size,
                f"a multiple of model.patch_size = {self.patch_size}",
            )
            require(
                self.family is Family.vit or not self.distillation_token,
                "model.distillation_token",
                self.distillation_token,
                f"only family vit has one, this is {self.family.value}",
            )
            require(
                self.family is Family.vit or self.class_token_std is None,
                "model.class_token_std",
                self.class_token_std,
                f"only family vit starts its class token so, this is {self.family.value}",
            )
            if self.family is Family.swin:
                require(
                    sum(self.stage_depths) == self.depth,
                    "model.stage_depths",
                    list(self.stage_depths),
                    f"blocks per stage that sum to model.depth = {self.depth}",
                )
            else:
                require(
                    not self.stage_depths,
                    "model.stage_depths",
                    list(self.stage_depths),
                    f"only family swin has stages, this is {self.family.value}",
                )

    @property
    def num_tokens(self) -> int:
        """Patch tokens that enter the first block."""
        return (self.image_size // self.patch_size) ** 2


@dataclass
class DataConfig:
    """A data set, and what the run must find when it opens it."""

    name: str = MISSING
    """For titles and captions: ImageNet-1k, MNIST-5k, ..."""
    source: DataSource = MISSING
    """image_folder: `root`/train/<class>/*, `root`/val/<class>/*. tar: the same inside tar files. webdataset: shards.
    huggingface: a data set of that library. cifar100, inaturalist: as downloaded. mnist5k, digits: files inside
    installed packages. docs/data.md has each layout."""
    root: str | None = off_identity(None)
    """Folder of the data; ``${oc.env:IMAGENET,null}`` in the shipped spec."""
    num_classes: int = MISSING
    """Classes; checked against the data when a run starts."""
    num_train: int = MISSING
    """Training images; checked against the data when a run starts."""
    num_val: int = MISSING
    """Validation images; checked against the data when a run starts."""
    in_channels: int = 3
    """Channels of an image."""
    mean: list[float] = field(default_factory=lambda: [0.485, 0.456, 0.406])
    """Per channel, on a 0..1 scale; subtracted."""
    std: list[float] = field(default_factory=lambda: [0.229, 0.224, 0.225])
    """Per channel, on a 0..1 scale; divided by."""
    fingerprint: str = ""
    """sha256 over what the source holds, where the source is one fixed file; empty: the three counts stand for it."""
    max_corrupt: int = off_identity(0)
    """Unreadable images that a run may replace by their neighbour (each one named in the journal) before it ends."""
    train: str | None = off_identity(None)
    """Where in `root` the training images are: folder (image_folder), tar file or folder of them (tar), shards, as
    name-{000..127}.tar (webdataset), split (huggingface), annotations (inaturalist); null: by the layout's own name."""
    val: str | None = off_identity(None)
    """The same for the validation images."""
    label: str | None = field(default=None, metadata={"neutral": None})
    """What tells the class where a layout has several: column (huggingface; null: label), field of key.json
    (webdataset; null: key.cls), taxonomic level (inaturalist; null: name), fine or coarse (cifar100; null: fine)."""

    on_nodes_only: bool = off_identity(False)
    """Whether `root` is not there where runs are launched, only on the nodes: then the runs check it as they start."""

    def __post_init__(self) -> None:
        self.root = absolute(self.root) if self.root else None
        with rules() as require:
            require(self.num_classes > 1, "data.num_classes", self.num_classes, "at least two classes")
            require(self.num_val > 0, "data.num_val", self.num_val, "at least one image")
            self._require_fitting_places(require)
            for key in ("mean", "std"):
                require(
                    len(getattr(self, key)) == self.in_channels,
                    f"data.{key}",
                    list(getattr(self, key)),
                    f"one number for each of data.in_channels = {self.in_channels}",
                )

    def _require_fitting_places(self, require: Require) -> None:
        """Nothing is set that the source would not look at."""
        source, labels = self.source, _LABELS.get(self.source, ())
        right = f"null, since data.source={source.value} has no choice of labels"
        right = f"one of {', '.join(labels)}" if labels and labels != ("*",) else right
        fits = self.label is None or self.label in labels or labels == ("*",)
        require(fits, "data.label", self.label, right)
        fixed = {DataSource.mnist5k, DataSource.digits, DataSource.cifar100}
        for key in ("train", "val"):
            right = f"null, since data.source={source.value} names its files itself"
            require(getattr(self, key) is None or source not in fixed, f"data.{key}", getattr(self, key), right)


_LABELS: dict[DataSource, tuple[str, ...]] = {
    DataSource.webdataset: ("*",),
    DataSource.huggingface: ("*",),
    DataSource.cifar100: ("fine", "coarse"),
    DataSource.inaturalist: ("kingdom", "phylum", "class", "order", "supercategory", "family", "genus", "name"),
}
"""What `data.label` may be; * is anything."""


_INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
"""Resampling that both Pillow and torchvision's kernels know."""


@dataclass
class RecipeConfig:
    """How a model is trained and evaluated. Batch and learning rate are of the optimizer step, over all devices."""

    epochs: int = MISSING
    """Passes over the training set; 0 evaluates `init_from` and trains nothing."""
    global_batch: int = MISSING
    """Samples per optimizer step, over all devices and accumulation steps."""
    base_lr: float = MISSING
    """Learning rate for 512 samples a step; the run uses base_lr * global_batch / 512 (linear scaling rule)."""
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
    """Dropout after position embedding, attention projection and in MLPs (timm's drop_rate, DeiT's --drop)."""
    attention_dropout: float = 0.0
    """Dropout on attention weights; above 0 AttnScale takes its explicit form."""
    drop_path: float = 0.1
    """Stochastic depth of the last block, rising linearly from 0 (CaiT: the same in every block)."""
    mixup: float = 0.8
    """Alpha of Mixup's Beta distribution; 0: off."""
    cutmix: float = 1.0
    """Alpha of CutMix's Beta distribution; 0: off."""
    mix_prob: float = 1.0
    """Probability that a mixing group is mixed at all."""
    mix_switch_prob: float = 0.5
    """Probability of CutMix where Mixup and CutMix are both on."""
    mix_group: int = 32
    """Consecutive samples of the global batch that share one Mixup or CutMix draw and mix among themselves. Fixed in
    samples, so that the result does not depend on how many devices the batch is dealt to."""
    rand_augment: str | None = "rand-m9-mstd0.5-inc1"
    """timm's auto-augment string; null: off."""
    rand_augment_interpolation: str | None = field(default=None, metadata={"neutral": None})
    """Resampling in `rand_augment`'s rotations, shears and translations; null: as `interpolation`. nearest, the default
    of torchvision's RandAugment, makes views in three quarters of the time, and is another recipe."""
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
    """Where weights start: `timm:<tag>`, `file:<path>`, `run:<experiment>` (of the same seed); null: random."""
    init_allow_missing: list[str] = field(default_factory=list)
    """Patterns (fnmatch) of parameters that `init_from` need not hold, besides the scalings."""
    distillation: Distillation = field(default=Distillation.none, metadata={"neutral": "none"})
    """none; hard: cross entropy against the teacher's decision; soft: against its probabilities (both as DeiT's)."""
    teacher: str | None = field(default=None, metadata={"neutral": None})
    """Whom to learn from, frozen: `timm:<tag>`, `run:<experiment>` (of the same seed), or `file:<path>`, which holds
    weights of `teacher_model`."""
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
            require(self.global_batch > 0, "recipe.global_batch", self.global_batch, "a positive whole number")
            require(
                0 <= self.warmup_epochs <= max(self.epochs, 0),
                "recipe.warmup_epochs",
                self.warmup_epochs,
                f"between 0 and recipe.epochs = {self.epochs}",
            )
            require(self.base_lr > 0, "recipe.base_lr", self.base_lr, "above 0")
            require(
                self.clip_grad is None or self.clip_grad > 0, "recipe.clip_grad", self.clip_grad, "above 0, or null"
            )
            for key in ("label_smoothing", "dropout", "attention_dropout", "drop_path"):
                require(0 <= getattr(self, key) < 1, f"recipe.{key}", getattr(self, key), "at least 0 and below 1")
            for key in ("mix_prob", "mix_switch_prob", "hflip", "random_erasing"):
                require(0 <= getattr(self, key) <= 1, f"recipe.{key}", getattr(self, key), "a probability, 0 to 1")
            require(
                self.ema_decay is None or 0 < self.ema_decay < 1,
                "recipe.ema_decay",
                self.ema_decay,
                "between 0 and 1, or null",
            )
            for key in ("interpolation", "rand_augment_interpolation"):
                fits = getattr(self, key) in (*_INTERPOLATIONS, *([None] if key != "interpolation" else []))
                require(fits, f"recipe.{key}", getattr(self, key), f"one of {', '.join(_INTERPOLATIONS)}")
            require(0 < self.eval_crop <= 1, "recipe.eval_crop", self.eval_crop, "above 0 and at most 1")
            require(
                self.repeated_augmentation >= 1, "recipe.repeated_augmentation", self.repeated_augmentation, "1 or more"
            )
            if self.mixes:
                require(
                    self.mix_group > 0 and self.mix_group % 2 == 0 and self.global_batch % max(1, self.mix_group) == 0,
                    "recipe.mix_group",
                    self.mix_group,
                    f"an even divisor of recipe.global_batch = {self.global_batch}",
                )
            for key in ("init_from", "teacher"):
                self._settle_origin(require, key)
            self._require_sound_distillation(require)

    def _settle_origin(self, require: Require, key: str) -> None:
        """Weights from elsewhere are named in one of three ways; a path becomes one that every process can open."""
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


@dataclass
class RuntimeConfig:
    """How a run runs; nothing here changes what is computed."""

    workers: int = -1
    """Data-loading processes per device; -1: from the CPUs that the job was given."""
    threads: int = 0
    """Threads of a process on the CPU; 0: one for local CPU runs, else what the scheduler gave."""
    device_batch: int = 0
    """Largest number of samples in one forward pass on a device; 0: global_batch / world size in one pass."""
    eval_batch: int = 250
    """Samples in one evaluation pass on a device."""
    gradient_checkpointing: bool = False
    """Keep the input of each block only, and compute the rest again in the backward pass: less memory, same numbers."""
    compile: Compiler = Compiler.none
    """Compile the model for training: faster on a GPU after a minute at each start. The same computation in other
    kernels, so numbers move by rounding, as on another device; evaluation stays as it is."""
    log_every: int = 50
    """Steps between two train records in the journal."""
    checkpoint_every_s: float = 300.0
    """Seconds between two checkpoints within an epoch; the end of an epoch always saves."""
    max_steps: int = 0
    """End the attempt after this many steps of the run (reason: cancelled), resumable; 0: no such limit."""
    heartbeat_s: float = 10.0
    """Seconds between two heartbeats."""
    system_every_s: float = 10.0
    """Seconds between two samples of CPU, memory and GPUs in the journal, at first, later a percent of the attempt's
    age; 0: none."""
    timeout_s: float = 600.0
    """Seconds that a rank waits for the others before the attempt ends as hung."""


_OWN_OPTIONS = {
    "account", "array", "chdir", "clusters", "constraint", "cpus-per-task", "dependency", "error", "exclude", "export",
    "export-file", "gid", "gpus-per-node", "gres", "help", "job-name", "mail-type", "mail-user", "mem", "no-requeue",
    "nodes", "ntasks", "ntasks-per-node", "open-mode", "output", "parsable", "partition", "qos", "quiet", "requeue",
    "signal", "test-only", "time", "uid", "usage", "version", "wait", "wrap",
}  # fmt: skip
"""sbatch options that a profile says by fields of its own, or that the launcher decides."""


def _is_own_option(option: str) -> bool:
    """Whether sbatch reads this as an option that is not a profile's to set; it takes abbreviations, too."""
    return option != "gpus" and any(own.startswith(option) for own in _OWN_OPTIONS)


def _is_line(text: str) -> bool:
    return text.isprintable()


@dataclass
class ClusterConfig:
    """Where and with what resources runs run. A site's own file beside `experiments/cluster/default.yaml` fills it."""

    name: str = MISSING
    """Name of this profile, as in `--cluster NAME`."""
    nodes: int = 1
    """Nodes per run."""
    gpus_per_node: int = 0
    """GPUs per node, and tasks per node (a node without GPUs: see `tasks_per_node`)."""
    tasks_per_node: int = 1
    """Processes per node where `gpus_per_node` is 0."""
    cpus_per_task: int = 1
    """CPUs per process."""
    mem_gb: float = 0
    """Memory per node in GiB; 0: the partition's default."""
    time_min: int = 1440
    """Wall-clock limit of one job, in minutes. A run that needs longer is a chain of jobs."""
    partition: str | None = None
    """SLURM partition; null: the cluster's default."""
    account: str | None = None
    """SLURM account; null: yours by default."""
    qos: str | None = None
    """SLURM quality of service; null: the account's default."""
    constraint: str | None = None
    """SLURM node features, as in `--constraint` ("a100&ib")."""
    exclude: list[str] = field(default_factory=list)
    """Nodes not to use: names, or ranges as `node[03-05]`."""
    gres: str | None = None
    """Ask for GPUs as `--gres=<gres>:<gpus_per_node>` (gpu, or gpu:a100) rather than `--gpus-per-node`."""
    mail_user: str | None = None
    """Address that SLURM writes to; null: no mail."""
    mail_type: list[str] = field(default_factory=lambda: ["FAIL"])
    """Occasions for a mail, as in `--mail-type`: BEGIN, END, FAIL, REQUEUE, TIME_LIMIT."""
    setup: list[str] = field(default_factory=list)
    """Shell lines that the batch script runs before the job (module load ...); trusted, as your own shell start-up."""
    sbatch: dict[str, Any] = field(default_factory=dict)
    """Further sbatch options, by long name without dashes; true for an option without a value, null for none."""
    starter: ProcessStarter = ProcessStarter.srun
    """srun: one task for each process. torchrun: one torchrun agent a node, which starts its processes."""
    signal_delay_s: int = 180
    """Seconds before the time limit at which the job is told to save and requeue. SLURM may be 60 s early."""
    requeue: bool = True
    """Whether this cluster lets a job go back into the queue under its own id; false: it submits its successor."""
    max_crashes: int = 3
    """Attempts without a named cause (crash, hang, out of memory) after which a run is given up."""
    max_without_progress: int = 3
    """Attempts in a row, of any cause, that may end without a new checkpointed step before a run is given up."""
    results: str | None = None
    """Folder for runs and tables, on a file system that all nodes see; null: `results/` of the checkout."""
    max_parallel: int = 0
    """Local back end: runs side by side; 0: as many as CPUs (or GPUs) allow."""

    def __post_init__(self) -> None:
        with rules() as require:
            for key in ("nodes", "tasks_per_node", "cpus_per_task", "time_min", "max_crashes", "max_without_progress"):
                require(getattr(self, key) > 0, f"cluster.{key}", getattr(self, key), "a positive whole number")
            require(self.gpus_per_node >= 0, "cluster.gpus_per_node", self.gpus_per_node, "0 or more")
            require(
                0 < self.signal_delay_s < 60 * self.time_min,
                "cluster.signal_delay_s",
                self.signal_delay_s,
                f"above 0 and below the time limit of {60 * self.time_min} s (cluster.time_min)",
            )
            self._require_safe_words(require)

    def _require_safe_words(self, require: Require) -> None:
        """No value may become a second option, a directive or a command of the batch script."""
        words = {key: getattr(self, key) for key in ("partition", "account", "qos", "gres", "mail_user")}
        words |= {f"exclude[{i}]": node for i, node in enumerate(self.exclude)}
        words |= {f"mail_type[{i}]": kind for i, kind in enumerate(self.mail_type)}
        for key, word in words.items():
            fits = word is None or re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.,:@+\[\]-]*", word) is not None
            require(fits, f"cluster.{key}", word, "letters, digits and _ . , : @ + - [ ], no leading dash")
        require((self.constraint or "").isprintable(), "cluster.constraint", self.constraint, "one line of text")
        for i, line in enumerate(self.setup):
            fits = line.isprintable() and not line.lstrip().startswith("#")
            right = "one shell command a line, no comments (#SBATCH would be a directive)"
            require(fits, f"cluster.setup[{i}]", line, right)
        for option, value in self.sbatch.items():
            key = f"cluster.sbatch.{option}"
            named = re.fullmatch(r"[a-z][a-z0-9-]*", str(option)) is not None
            require(named, key, option, "a long option of sbatch, without its dashes")
            taken = named and _is_own_option(str(option))
            require(not taken, key, value, "a field of `cluster`, or the launcher, says that already")
            require(value is not False, key, value, "true, or the option left out")
            is_word = value is None or isinstance(value, (str, int, float))
            require(is_word, key, value, "one word or number, true, or null")
            require(not is_word or str(value).isprintable(), key, value, "one line of text")

    @property
    def processes_per_node(self) -> int:
        """Ranks per node: one per GPU, else `tasks_per_node`."""
        return self.gpus_per_node or self.tasks_per_node

    @property
    def world_size(self) -> int:
        """Ranks over all nodes."""
        return self.nodes * self.processes_per_node


@dataclass
class Experiment:
    """One table row: what to run."""

    name: str = off_identity()
    """The spec's file name without ending; names the run directory."""
    title: str = off_identity("")
    """For people: DeiT-S, 12 layers, + AttnScale."""
    profile: str = off_identity("imagenet")
    """imagenet, or mini: every row shrunk to minutes on a CPU."""
    revision: int = 1
    """Raised by hand when the code's meaning changes, so that old runs are no longer this experiment."""
    model: ModelConfig = MISSING
    """The model."""
    data: DataConfig = MISSING
    """The data."""
    recipe: RecipeConfig = MISSING
    """The training."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig, metadata={"identity": False})
    """How it runs."""
    cluster: ClusterConfig = field(default=MISSING, metadata={"identity": False})
    """Where it runs."""

    def __post_init__(self) -> None:
        with rules() as require:
            steps = self.data.num_train // self.recipe.global_batch
            require(
                self.recipe.epochs == 0 or steps > 0,
                "recipe.global_batch",
                self.recipe.global_batch,
                f"at most data.num_train = {self.data.num_train}",
            )
            excluding = self.model.mask_aware and self.model.scaling is Scaling.attnscale
            require(
                not excluding or self.recipe.attention_dropout == 0,
                "recipe.attention_dropout",
                self.recipe.attention_dropout,
                "0 with model.mask_aware, whose AttnScale has no form that dropout falls on",
            )

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch; the last, partial batch is dropped."""
        return self.data.num_train // self.recipe.global_batch

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.steps_per_epoch * self.recipe.epochs


@dataclass
class PaperValue:
    """A number that the table compares with."""

    top1: float = MISSING
    """ImageNet-1k top-1 accuracy, in percent."""
    source: str = MISSING
    """Who printed it."""
    confidence: str = MISSING
    """V: seen verbatim; Q: quoted by a named follow-up; M: from memory; D: derived. Never left out."""

    def __post_init__(self) -> None:
        with rules() as require:
            require(0 <= self.top1 <= 100, "paper.top1", self.top1, "a percentage")
            require(
                self.confidence in CONFIDENCES, "paper.confidence", self.confidence, f"one of {', '.join(CONFIDENCES)}"
            )
            require(bool(self.source.strip()), "paper.source", self.source, "a paper value needs its source")


@dataclass
class TableRow:
    """A row: an experiment, or a number quoted from literature."""

    label: str = MISSING
    """What the table prints: DeiT-S + AttnScale."""
    experiment: str | None = None
    """Name of the spec, beside the tables folder; null: the row is only quoted."""
    group: str = ""
    """Rows of one group stand together: DeiT-S, 12 layers."""
    baseline: str | None = None
    """Experiment of this table that `gain` is measured against."""
    paper: PaperValue | None = None
    """The paper's number."""


@dataclass
class Table:
    """A table of results: which rows, and what they are compared with."""

    name: str = MISSING
    """The file name without ending; names the rendered files."""
    title: str = MISSING
    """First line of the rendered table."""
    caption: str = ""
    """What a reader must know to read it."""
    rows: list[TableRow] = field(default_factory=list)
    """In the order they are printed."""
    figures: list[str] = field(default_factory=list)
    """Names of figures that are drawn along with the table; their rows are rows of it."""

    def __post_init__(self) -> None:
        with rules() as require:
            names = [row.experiment for row in self.rows if row.experiment]
            require(bool(self.rows), "rows", [], "at least one row")
            for i, row in enumerate(self.rows):
                once = row.experiment not in [before.experiment for before in self.rows[:i] if before.experiment]
                require(once, f"rows[{i}].experiment", row.experiment, "each experiment at most once")
                known = row.baseline is None or row.baseline in names
                require(known, f"rows[{i}].baseline", row.baseline, f"an experiment of this table: {', '.join(names)}")
                filled = row.experiment is not None or row.paper is not None
                right = f"row {row.label!r} needs an experiment, or a paper value to quote"
                require(filled, f"rows[{i}].experiment", None, right)


@dataclass
class ReferenceCurve:
    """A published curve, drawn beside a row's own where the row is measured in the paper's setting."""

    experiment: str = MISSING
    """The row that it stands beside."""
    first_layer: int = MISSING
    """Layer of the first value; 0 is what enters the first block."""
    values: list[float] = MISSING
    """One for each layer from there on."""
    source: str = MISSING
    """Where it was printed, and how it was read off."""
    confidence: str = MISSING
    """As of a `PaperValue`; never left out."""

    def __post_init__(self) -> None:
        with rules() as require:
            require(
                self.confidence in CONFIDENCES,
                "references.confidence",
                self.confidence,
                f"one of {', '.join(CONFIDENCES)}",
            )
            require(bool(self.source.strip()), "references.source", self.source, "a published curve needs its source")


@dataclass
class Panel:
    """One pair of axes of a figure."""

    kind: PanelKind = MISSING
    """What is drawn."""
    layers: list[int] = field(default_factory=lambda: [-1])
    """Spectra and decays: of which layers; 1 is the first, -1 the last."""
    references: list[ReferenceCurve] = field(default_factory=list)
    """Published curves."""


@dataclass
class FigureRow:
    """An experiment whose runs a figure compares."""

    experiment: str = MISSING
    """Name of the spec, beside the figures folder."""
    label: str = MISSING
    """What the legend says."""


@dataclass
class Figure:
    """A figure: which rows, and what is drawn of their runs."""

    name: str = MISSING
    """The file name without ending; names the rendered files."""
    title: str = MISSING
    """Above the panels."""
    caption: str = ""
    """What a reader must know to read it."""
    rows: list[FigureRow] = field(default_factory=list)
    """In the order of the legend."""
    panels: list[Panel] = field(default_factory=list)
    """From left to right."""

    def __post_init__(self) -> None:
        with rules() as require:
            names = [row.experiment for row in self.rows]
            require(bool(self.rows), "rows", [], "at least one row")
            require(bool(self.panels), "panels", [], "at least one panel")
            for i, name in enumerate(names):
                require(name not in names[:i], f"rows[{i}].experiment", name, "each experiment at most once")
            right = f"an experiment of this figure: {', '.join(names)}"
            for i, panel in enumerate(self.panels):
                for j, reference in enumerate(panel.references):
                    key = f"panels[{i}].references[{j}].experiment"
                    require(reference.experiment in names, key, reference.experiment, right)
