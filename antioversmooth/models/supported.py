"""timm's layers that methods can be placed in, and the checks that a model has no others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from timm.layers.attention import Attention, AttentionRope
from timm.models import beit, eva, swin_transformer, swin_transformer_v2, swin_transformer_v2_cr
from timm.models.cait import ClassAttn, TalkingHeadAttn
from timm.models.vision_transformer_relpos import RelPosAttention
from torch import nn

from antioversmooth.errors import ModelError
from antioversmooth.methods import AttentionMethod, Family, MeanMethod, Method
from antioversmooth.models import attention as scaled
from antioversmooth.models.branches import BranchedSwinBlock
from antioversmooth.models.staged import StagedVisionTransformer

ATTENTION: dict[type[nn.Module], type[scaled.ScaledAttention]] = {
    Attention: scaled.ScaledVitAttention,
    AttentionRope: scaled.ScaledRopeAttention,
    RelPosAttention: scaled.ScaledRelPosAttention,
    beit.Attention: scaled.ScaledBeitAttention,
    eva.EvaAttention: scaled.ScaledEvaAttention,
    swin_transformer.WindowAttention: scaled.ScaledWindowAttention,
    swin_transformer_v2.WindowAttention: scaled.ScaledWindowAttentionV2,
    swin_transformer_v2_cr.WindowMultiHeadAttention: scaled.ScaledWindowAttentionV2Cr,
    TalkingHeadAttn: scaled.ScaledTalkingHeads,
}
"""timm's attention layers, each with its class that holds methods."""
MAP_BLOCKS: dict[type[nn.Module], type[nn.Module]] = {
    swin_transformer.SwinTransformerBlock: scaled.ScaledSwinBlock,
    swin_transformer_v2.SwinTransformerV2Block: scaled.ScaledSwinBlockV2,
    swin_transformer_v2_cr.SwinTransformerV2CrBlock: scaled.ScaledSwinBlockV2Cr,
}
"""The same for blocks with windows, which apply a FeatureMethod to the whole map."""
_WINDOWS = tuple(kind for kind, held in ATTENTION.items() if issubclass(held, scaled.WindowMean))


class UnknownLayers(ModelError):
    """A model whose layers are none of those that are known here."""


class Layer(NamedTuple):
    """A self-attention layer in its block."""

    name: str
    block: nn.Module
    attention: Any


def self_attentions(model: nn.Module) -> list[Layer]:
    """Self-attention layers in the order of the modules; class attention is left out.

    Raises:
        ModelError: There is none.
    """
    found = [
        Layer(f"{name}.attn", block, block._modules["attn"])
        for name, block in model.named_modules()
        if block._modules.get("attn") is not None and not isinstance(block.attn, ClassAttn)
    ]
    if not found:
        kind = type(model).__name__
        raise UnknownLayers(
            f"{kind} has no block with an attention layer `attn` to scale{_nearest(model)}"
        )
    return found


def _nearest(model: nn.Module) -> str:
    """Part of the message: the first module whose name looks like attention."""
    for name, module in model.named_modules():
        kind = type(module).__name__.lower()
        if (
            "attention" in kind
            or "attn" in kind
            or any(child.startswith("attn") for child in module._modules)
        ):
            return f"; {name} is a {path_of(type(module))}, which is not supported"
    return ""


def require_family(model: nn.Module, method: Method) -> None:
    """Raises ModelError where the method is not defined for the family of the model, or that is
    none of those known here."""
    layers = self_attentions(model)
    for layer in layers:
        _require_kinds(layer)
    families = families_of(model)
    if families - set(method.families):
        known = " and ".join(family.value for family in method.families)
        theirs = ", ".join(sorted(family.value for family in families))
        raise ModelError(
            f"{method.title} is defined for {known} only, and this"
            f" {type(model).__name__} is of the family {theirs}"
        )


def families_of(model: nn.Module) -> set[Family]:
    """The families of a model's self-attention layers; none where it has no layers of that name."""
    try:
        return {_family_of(layer.attention) for layer in self_attentions(model)}
    except UnknownLayers:
        return set()


def _family_of(attention: nn.Module) -> Family:
    if isinstance(attention, TalkingHeadAttn):
        return Family.cait
    return Family.swin if isinstance(attention, _WINDOWS) else Family.vit


def require_known(layer: Layer) -> None:
    """Raises ModelError, with the layer's name, where it is none of timm's that are known here."""
    if isinstance(layer.attention, scaled.ScaledAttention):
        raise ModelError(f"{layer.name} is scaled already; remove_method(model) undoes it")
    _require_kinds(layer)


def _require_kinds(layer: Layer) -> None:
    name, block, attention = layer
    if isinstance(attention, scaled.ScaledAttention):
        return
    _require_kind(name, attention, ATTENTION)
    if isinstance(attention, _WINDOWS) and not isinstance(block, BranchedSwinBlock):
        _require_kind(name.removesuffix(".attn"), block, MAP_BLOCKS)


def require_supported(layer: Layer, method: Method) -> None:
    """Raises ModelError, with the layer's name, where the method would not be exact."""
    require_known(layer)
    name, attention = layer.name, layer.attention
    parts = ["proj", "qkv"] if scaled.applies_qkv(attention) else ["proj"]
    if isinstance(method, AttentionMethod):
        parts = ["qkv", "v_proj", "proj"]
    for part in parts:
        linear = getattr(attention, part, None)
        if linear is not None:
            scaled.require_linear(f"{name}.{part}", linear)
            if part == "proj" or _defers_values(attention, method):
                scaled.require_not_parametrized(f"{name}.{part}", linear, "add_method")
    for part in ("proj_l", "proj_w") if isinstance(attention, TalkingHeadAttn) else ():
        linear = attention.get_submodule(part)
        scaled.require_linear(f"{name}.{part}", linear)
        scaled.require_unhooked(f"{name}.{part}", linear)
    if not isinstance(method, AttentionMethod):
        return
    if isinstance(method, MeanMethod) and method.mask_aware and attention.attn_drop.p > 0:
        raise ModelError(
            f"{method.title} does not go into {name}: mask_aware and attention dropout exclude"
            " each other"
        )


def _defers_values(attention: nn.Module, method: Method) -> bool:
    needs_values = isinstance(method, AttentionMethod) and method.needs_values
    return needs_values and ATTENTION[type(attention)].defers_values


def _require_kind(name: str, module: nn.Module, supported: Iterable[type]) -> None:
    if type(module) not in supported:
        paths = ", ".join(map(path_of, supported))
        raise UnknownLayers(
            f"{name} is a {path_of(type(module))}, which is not supported; supported are {paths}"
        )


def path_of(kind: type) -> str:
    """Module and name of a class, for messages."""
    return f"{kind.__module__}.{kind.__name__}"


def needs_matrix(attention: Any, method: AttentionMethod) -> bool:
    """Whether a method can be applied to nothing but the attention matrix of a layer of ours."""
    drops = attention.attn_drop.p > 0
    if isinstance(attention, scaled.ScaledTalkingHeads):
        return method.needs_values and drops
    return (
        # dropout would fall on the rescaled entries
        drops
        or not isinstance(getattr(attention, "norm", nn.Identity()), nn.Identity)
        or getattr(attention, "gate", None) is not None
        or getattr(attention, "num_kv_groups", 1) > 1
        or (method.attends_twice and not attention.can_defer_values)
    )


def num_prefix_tokens(model: Any, layers: Sequence[Layer]) -> list[int]:
    """Tokens in front of the patches in each layer; none where they join later, or never (Swin).

    Raises:
        ModelError: The model does not say how many.
    """
    if any(isinstance(layer.attention, (TalkingHeadAttn, *_WINDOWS)) for layer in layers):
        return [0] * len(layers)
    if not hasattr(model, "num_prefix_tokens"):
        raise ModelError(
            f"{type(model).__name__} does not say how many class tokens it has (num_prefix_tokens),"
            " so they cannot stay out of the mean: leave class_token_in_mean at True"
        )
    entrance = model.entrance if isinstance(model, StagedVisionTransformer) else 0
    return [model.num_prefix_tokens * (number >= entrance) for number in range(len(layers))]


def scaled_layers(model: nn.Module) -> Iterator[Layer]:
    """The layers that hold methods."""
    for name, block in model.named_modules():
        attention = block._modules.get("attn")
        if isinstance(attention, scaled.ScaledAttention):
            yield Layer(f"{name}.attn", block, attention)
