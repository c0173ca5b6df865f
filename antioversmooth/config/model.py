"""The model part of a spec."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from antioversmooth.config.checks import MISSING, rules


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
    """How the weights of linear layers start."""

    timm = "timm"
    xavier = "xavier"


@dataclass
class ModelConfig:
    """A timm backbone at a stated size, and the scaling placed into it."""

    family: Family = MISSING
    """vit (DeiT), cait or swin."""
    depth: int = MISSING
    """Self-attention blocks; for Swin the sum over its stages. CaiT's class-attention layers are
    not counted."""
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
    """timm: truncated normal of std 0.02. xavier: Xavier uniform, for narrow models that should
    learn in minutes."""
    position_embedding_std: float = 0.02
    """Standard deviation of the position embedding at the start (ViT and CaiT)."""
    class_token_std: float | None = field(default=None, metadata={"neutral": None})
    """ViT: standard deviation of the class token at the start, 0.02 in the released code; none:
    timm's 1e-6."""
    scaling: Scaling = Scaling.none
    """none, attnscale or featscale."""
    scaling_variant: ScalingVariant = ScalingVariant.released
    """released follows the released code of each family, paper its equations; they differ for
    DeiT's FeatScale only."""
    class_token_in_mean: bool = True
    """ViT: whether the DC part is the mean over class and patch tokens (released) or over patch
    tokens only."""
    mask_aware: bool = False
    """Swin AttnScale: leave pairs that a shifted window masks out of the mean (released code:
    included)."""
    distillation_token: bool = field(default=False, metadata={"neutral": False})
    """ViT: a distillation token beside the class token, each with a classifier; in evaluation they
    are averaged."""

    def __post_init__(self) -> None:
        with rules() as require:
            for key in (
                "depth",
                "embed_dim",
                "num_heads",
                "image_size",
                "patch_size",
                "window_size",
                "class_depth",
            ):
                require(
                    getattr(self, key) > 0,
                    f"model.{key}",
                    getattr(self, key),
                    "a positive whole number",
                )
            require(self.mlp_ratio > 0, "model.mlp_ratio", self.mlp_ratio, "above 0")
            right = f"a hidden channel at least, of model.embed_dim = {self.embed_dim} times it"
            require(self.embed_dim * self.mlp_ratio >= 1, "model.mlp_ratio", self.mlp_ratio, right)
            require(
                self.layer_scale_init >= 0,
                "model.layer_scale_init",
                self.layer_scale_init,
                "0 or more",
            )
            for key, right in (
                ("position_embedding_std", "above 0"),
                ("class_token_std", "above 0, or null"),
            ):
                value = getattr(self, key)
                require(value is None or value > 0, f"model.{key}", value, right)
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
                    sum(self.stage_depths) == self.depth and min(self.stage_depths, default=0) > 0,
                    "model.stage_depths",
                    list(self.stage_depths),
                    f"blocks per stage, at least one each, that sum to model.depth = {self.depth}",
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
