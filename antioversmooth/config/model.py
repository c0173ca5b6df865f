"""The model part of a spec."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from antioversmooth.config.constraints import MISSING, above, at_least, each, option
from antioversmooth.config.rules import Broken, Config, rule


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
    """Which form of FeatScale: the paper's (1 + s, 1 + t), or the released DeiT code's (1 + 2s, 1 +
    2t)."""

    released = "released"
    paper = "paper"


class Initialisation(Enum):
    """Initial weights of linear layers."""

    timm = "timm"
    xavier = "xavier"


@dataclass
class ModelConfig(Config, section="model"):
    """A timm backbone of a given size, and the scaling in it."""

    family: Family = MISSING
    """vit (DeiT), cait or swin."""
    depth: int = option(MISSING, at_least(1))
    """Self-attention blocks; for Swin the sum over its stages. CaiT's class-attention layers are
    not counted."""
    embed_dim: int = option(MISSING, at_least(1))
    """Channels of a token; for Swin in the first stage (each later stage doubles it)."""
    num_heads: int = option(MISSING, at_least(1))
    """Attention heads a block; for Swin in the first stage (each later stage doubles it)."""
    image_size: int = option(MISSING, at_least(1))
    """Pixels along one side of the square input."""
    patch_size: int = option(MISSING, at_least(1))
    """Pixels along one side of a patch."""
    mlp_ratio: float = option(4.0, above(0))
    """Hidden channels of an MLP, as a multiple of `embed_dim`."""
    stage_depths: list[int] = option(
        [], each(at_least(1)), identity=lambda model: model.family is Family.swin
    )
    """Swin: blocks per stage; they sum to `depth`."""
    window_size: int = option(7, at_least(1), identity=lambda model: model.family is Family.swin)
    """Swin: tokens along one side of an attention window."""
    class_depth: int = option(2, at_least(1), identity=lambda model: model.family is Family.cait)
    """CaiT: class-attention layers behind the self-attention blocks; never scaled."""
    layer_scale_init: float = option(
        1.0e-5, at_least(0), identity=lambda model: model.family is Family.cait
    )
    """CaiT: start of LayerScale's per-channel factors."""
    init: Initialisation = Initialisation.timm
    """timm: truncated normal of std 0.02. xavier: Xavier uniform, for narrow models that should
    learn in minutes."""
    position_embedding_std: float = option(
        0.02, above(0), identity=lambda model: model.family is not Family.swin
    )
    """Standard deviation of the position embedding at the start (ViT and CaiT)."""
    class_token_std: float | None = option(None, above(0), identity_default=None)
    """ViT: standard deviation of the class token at the start, 0.02 in the released code; null:
    timm's 1e-6."""
    scaling: Scaling = Scaling.none
    """none, attnscale or featscale."""
    scaling_variant: ScalingVariant = option(
        ScalingVariant.released,
        identity=lambda model: (
            model.family is Family.vit and model.scaling not in (Scaling.none, Scaling.attnscale)
        ),
    )
    """released follows the released code of each family, paper its equations; they differ for
    DeiT's FeatScale only."""
    class_token_in_mean: bool = option(
        True,
        identity=lambda model: model.family is Family.vit and model.scaling is not Scaling.none,
    )
    """ViT: whether the DC part is the mean over class and patch tokens (released) or over patch
    tokens only."""
    mask_aware: bool = option(
        False,
        identity=lambda model: (
            model.family is Family.swin and model.scaling not in (Scaling.none, Scaling.featscale)
        ),
    )
    """Swin AttnScale: leave pairs that a shifted window masks out of the mean (released code:
    included)."""
    distillation_token: bool = option(False, identity_default=False)
    """ViT: a distillation token in addition to the class token, each with a classifier; evaluation
    averages the two."""

    @rule("mlp_ratio", "embed_dim")
    def _an_mlp_has_a_hidden_channel(self) -> Iterator[Broken]:
        if self.embed_dim * self.mlp_ratio < 1:
            expected = f"a hidden channel at least, of model.embed_dim = {self.embed_dim} times it"
            yield Broken("mlp_ratio", self.mlp_ratio, expected, also=("embed_dim",))

    @rule("num_heads", "embed_dim")
    def _heads_divide_the_channels(self) -> Iterator[Broken]:
        if self.embed_dim % self.num_heads:
            expected = f"a divisor of model.embed_dim = {self.embed_dim}"
            yield Broken("num_heads", self.num_heads, expected, also=("embed_dim",))

    @rule("image_size", "patch_size")
    def _patches_divide_the_image(self) -> Iterator[Broken]:
        if self.image_size % self.patch_size:
            expected = f"a multiple of model.patch_size = {self.patch_size}"
            yield Broken("image_size", self.image_size, expected, also=("patch_size",))

    @rule("family", "distillation_token", "class_token_std")
    def _tokens_that_only_vit_has(self) -> Iterator[Broken]:
        if self.family is Family.vit:
            return
        this = f"this is {self.family.value} (model.family)"
        if self.distillation_token:
            expected = f"false: only family vit has a distillation token, {this}"
            yield Broken("distillation_token", True, expected, also=("family",))
        if self.class_token_std is not None:
            expected = f"null: only family vit starts its class token so, {this}"
            yield Broken("class_token_std", self.class_token_std, expected, also=("family",))

    @rule("family", "stage_depths", "depth")
    def _stages_sum_to_the_depth(self) -> Iterator[Broken]:
        if self.family is not Family.swin and self.stage_depths:
            expected = f"only family swin has stages, this is {self.family.value}"
            yield Broken("stage_depths", self.stage_depths, expected, also=("family",))
        if self.family is Family.swin and sum(self.stage_depths) != self.depth:
            expected = f"blocks per stage that sum to model.depth = {self.depth}"
            yield Broken("stage_depths", self.stage_depths, expected, also=("depth",))

    @property
    def num_tokens(self) -> int:
        """Patch tokens that enter the first block."""
        return (self.image_size // self.patch_size) ** 2
