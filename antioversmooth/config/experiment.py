"""One row of a table: all parts of a spec together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import lcm

from antioversmooth.config.cluster import ClusterConfig
from antioversmooth.config.data import DataConfig
from antioversmooth.config.model import METHOD_FIELDS, ModelConfig
from antioversmooth.config.recipe import FAST, RecipeConfig
from antioversmooth.config.rules import Broken, Config, rule
from antioversmooth.config.runtime import RuntimeConfig
from antioversmooth.constraints import (
    MISSING,
    PROFILE,
    file_name,
    file_name_or_empty,
    matches,
    option,
)
from antioversmooth.methods import METHODS, MeanMethod
from antioversmooth.methods.losses import LossMethod

_METHOD = tuple(f"model.{name}" for name in METHOD_FIELDS)


@dataclass
class Experiment(Config):
    """One table row: what to run."""

    name: str = option(MISSING, file_name(), identity=False)
    """The spec's file name without ending; names the run directory."""
    row: str = option("", file_name_or_empty(), identity=False)
    """Name of the row, given by its table where several rows share this spec; empty: `name`."""
    title: str = option("", identity=False, prose=True)
    """For people: DeiT-S, 12 layers, + AttnScale."""
    profile: str = option(
        "imagenet", matches(PROFILE, "at most 40 letters, digits and `_`"), identity=False
    )
    """imagenet; mini, every row shrunk to minutes on a CPU; study, the rows of docs/study.md."""
    revision: int = 1
    """Raised by hand when the code's meaning changes, so that old runs are no longer this
    experiment."""
    model: ModelConfig = MISSING
    """The model."""
    data: DataConfig = MISSING
    """The data."""
    recipe: RecipeConfig = MISSING
    """The training."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig, metadata={"identity": False})
    """How it runs."""
    cluster: ClusterConfig = option(identity=False)
    """Where it runs."""

    @rule("recipe.epochs", "recipe.global_batch", "data.num_train")
    def _a_step_in_each_epoch(self) -> Iterator[Broken]:
        if self.recipe.epochs > 0 and self.recipe.global_batch > self.data.num_train:
            expected = f"at most data.num_train = {self.data.num_train}"
            key, value = "recipe.global_batch", self.recipe.global_batch
            yield Broken(key, value, expected, also=("data.num_train",))

    @rule(
        *_METHOD,
        "recipe.attention_dropout",
    )
    def _no_dropout_on_masked_means(self) -> Iterator[Broken]:
        method = self.model.sound_method
        masked = isinstance(method, MeanMethod) and method.mask_aware
        if method and masked and self.recipe.attention_dropout != 0:
            expected = (
                f"0 with model.mask_aware, whose {method.title} has no form that dropout falls on"
            )
            key, value = "recipe.attention_dropout", self.recipe.attention_dropout
            yield Broken(key, value, expected, also=("model.mask_aware",))

    @rule("recipe.crop", "data.source", "model.image_size")
    def _padded_crops_of_the_images_own_size(self) -> Iterator[Broken]:
        side = self.data.image_side
        if self.recipe.resizes or side == self.model.image_size:
            return
        source = f"data.source={self.data.source.value}"
        if side is None:
            sizes = self.data.image_sizes
            expected = f"resized; {source} has images of {sizes}, and padded takes a known one"
        else:
            expected = f"resized; padded needs model.image_size={side}, the size of {source}"
        also = ("data.source", "model.image_size")
        yield Broken("recipe.crop", self.recipe.crop, expected, also=also)

    @rule("recipe.cutmix_minmax", "model.image_size")
    def _a_box_of_whole_pixels(self) -> Iterator[Broken]:
        shares, side = self.recipe.cutmix_minmax, self.model.image_size
        if shares and int(side * shares[0]) == int(side * shares[1]):
            expected = f"two shares that differ by a pixel of model.image_size = {side}"
            yield Broken("recipe.cutmix_minmax", shares, expected, also=("model.image_size",))

    @rule(
        *_METHOD,
        "recipe.epochs",
        "recipe.mix_prob",
        "recipe.cutmix",
        "recipe.cutmix_minmax",
    )
    def _cut_images_for_a_loss_on_what_patches_show(self) -> Iterator[Broken]:
        method = self.model.sound_method
        if not (isinstance(method, LossMethod) and method.classifies_patches):
            return
        if self.recipe.epochs > 0 and not self.recipe.cuts:
            expected = (
                f"above 0, and so recipe.mix_prob, because a loss of {method.title} needs"
                " images that CutMix cuts; or set the weight of that loss to 0"
            )
            also = ("recipe.mix_prob", "model.method_options")
            yield Broken("recipe.cutmix", self.recipe.cutmix, expected, also=also)

    @rule(
        *_METHOD,
        "recipe.mix_group",
        "recipe.mix_prob",
        "recipe.mixup",
        "recipe.cutmix",
        "recipe.cutmix_minmax",
        "runtime.device_batch",
    )
    def _whole_groups_in_each_pass(self) -> Iterator[Broken]:
        size, keys = self.runtime.device_batch, tuple(self.groups)
        if 0 < size < self.inseparable:
            expected = f"at least {self.inseparable} ({' and '.join(keys)}), or 0"
            yield Broken("runtime.device_batch", size, expected, also=keys)

    @property
    def row_name(self) -> str:
        """Name of the row, by which the rows of a table are told apart."""
        return self.row or self.name

    @property
    def groups(self) -> dict[str, int]:
        """Consecutive samples of the global batch that are computed together, by the key that says
        how many."""
        method = self.model.sound_method
        found = {
            "recipe.mix_group": self.recipe.mix_group if self.recipe.mixes else 1,
            "model.method_options.group": method.inseparable if method else 1,
        }
        return {key: number for key, number in found.items() if number > 1}

    @property
    def inseparable(self) -> int:
        """Consecutive samples of the global batch that stay on one device: whole groups of each
        kind."""
        return lcm(*self.groups.values())

    @property
    def trains_method_parameters(self) -> bool:
        """Whether the run trains parameters that a method added to its model."""
        method = METHODS.get(self.model.method)
        return self.recipe.epochs > 0 and method is not None and bool(method.parameters)

    @property
    def data_read(self) -> DataConfig:
        """The data as the run reads them: without a cache where nothing is trained."""
        return self.data if self.recipe.epochs > 0 else replace(self.data, cache=None)

    @property
    def decodes_fast(self) -> bool:
        """Whether the fast policy decodes the images of training views."""
        decodes = self.recipe.epochs > 0 and not self.data.source.in_memory
        resizes = self.recipe.resizes and self.data.cache is None
        return self.recipe.policy == FAST and decodes and resizes

    @property
    def moves_fast(self) -> bool:
        """Whether the fast policy moves pixels of training views to others than the exact one."""
        recipe = self.recipe
        moves = recipe.epochs > 0 and recipe.policy == FAST and recipe.rand_augment is not None
        nearest = recipe.moves_by == "nearest" and recipe.interpolation != "nearest"
        return moves and nearest

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch; the last, partial batch is dropped."""
        return self.data.num_train // self.recipe.global_batch

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.steps_per_epoch * self.recipe.epochs
