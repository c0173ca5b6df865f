"""The model part of a spec."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any

from antioversmooth.config.rules import Broken, Config, rule
from antioversmooth.config.types import convert
from antioversmooth.constraints import MISSING, above, at_least, each, one_of, option
from antioversmooth.errors import SpecError, did_you_mean
from antioversmooth.methods import METHODS, Family, Method, method_of
from antioversmooth.methods.featscale import ScalingVariant
from antioversmooth.methods.options import differing, expected, option_types, options_of


class Initialisation(Enum):
    """Initial weights of linear layers."""

    timm = "timm"
    xavier = "xavier"


def _has_form(field: str) -> Callable[[ModelConfig], bool]:
    """Whether the field chooses among forms that the method of a model has in its family."""
    return lambda model: (
        model.method in METHODS and field in METHODS[model.method].forms.get(model.family, {})
    )


METHOD_FIELDS = (
    "family",
    "method",
    "method_options",
    "scaling_variant",
    "class_token_in_mean",
    "mask_aware",
)
"""Fields that choose a method and its form: what `ModelConfig.sound_method` reads."""


@dataclass
class ModelConfig(Config, section="model"):
    """A timm backbone of a given size, and the method in it."""

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
    method: str = option("none", one_of("none", *METHODS), formerly="scaling")
    """Method against oversmoothing, by the name of its module in antioversmooth/methods/, or none;
    docs/methods/ has a page for each."""
    method_options: dict[str, Any] = option(
        {},
        identity_default={},
        identified=lambda model: differing(METHODS.get(model.method), model.method_options),
    )
    """Options of the method by name; docs/methods/ lists them. One with its default value does not
    identify a run."""
    scaling_variant: ScalingVariant = option(
        ScalingVariant.released, identity=_has_form("scaling_variant")
    )
    """released follows the released code of each family, paper its equations; they differ for
    DeiT's FeatScale only."""
    class_token_in_mean: bool = option(True, identity=_has_form("class_token_in_mean"))
    """ViT: whether the DC part is the mean over class and patch tokens (released) or over patch
    tokens only."""
    mask_aware: bool = option(False, identity=_has_form("mask_aware"))
    """Swin, methods with a mean over tokens: leave pairs that a shifted window masks out of it
    (released code: included)."""
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

    def normalise(self) -> None:
        """Converts options of the method, as `1e-3`, which YAML reads as text."""
        if not self.method_options or self.method not in METHODS:
            return
        types = option_types(METHODS[self.method])
        for name in types.keys() & self.method_options.keys():
            with suppress(SpecError):
                self.method_options[name] = convert(types[name], self.method_options[name])

    @rule("method", "family")
    def _the_method_is_defined_for_the_family(self) -> Iterator[Broken]:
        method = METHODS.get(self.method)
        if method and self.family not in method.families:
            families = ", ".join(family.value for family in method.families)
            wanted = f"{method.title} is defined for {families} only, this is {self.family.value}"
            yield Broken("method", self.method, wanted, also=("family",))

    @rule("method", "method_options")
    def _the_method_has_the_options(self) -> Iterator[Broken]:
        method = METHODS.get(self.method)
        known = options_of(method) if method else {}
        for name, value in self.method_options.items():
            wanted = f"{method.title if method else 'model.method=none'} has no such option"
            if method and name in known:
                wanted = expected(method, name, value)
            elif others := [one.title for one in METHODS.values() if name in options_of(one)]:
                wanted += (
                    f", but {' and '.join(others)}; method={self.method}, in the defaults or as an"
                    " override, chooses a method with its options"
                )
            elif known:
                wanted += f"; {did_you_mean(name, known)}"
            if wanted:
                yield Broken(f"method_options.{name}", value, wanted, also=("method",))

    @rule(*METHOD_FIELDS, "depth", "distillation_token")
    def _the_method_goes_with_the_backbone(self) -> Iterator[Broken]:
        method = self.sound_method
        misfits = method.misfits(self.depth, distilled=self.distillation_token) if method else ()
        for key, wanted in misfits:
            holder: Any = method if key.startswith("method_options.") else self
            value = getattr(holder, key.removeprefix("method_options."))
            yield Broken(key, value, wanted, also=("method",))

    @property
    def sound_method(self) -> Method | None:
        """The method; None for none, and where its options are wrong."""
        return None if any(self._the_method_has_the_options()) else method_of(self)

    @property
    def canonical_options(self) -> dict[str, Any]:
        """The options of a sound method, in the one spelling of those that compute the same."""
        method = self.sound_method
        return method.canonical(self.depth) if method else {}

    @property
    def num_tokens(self) -> int:
        """Patch tokens that enter the first block."""
        return (self.image_size // self.patch_size) ** 2
