"""The place of an AttentionMethod: behind the softmax, in front of the projection, head by head."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from antioversmooth.methods import AttentionMethod
from antioversmooth.models import attention as scaled
from antioversmooth.models import supported
from antioversmooth.models.places import layers


def require_supported(model: nn.Module, method: AttentionMethod) -> None:
    """Raises ModelError where the method would not be exact in the model."""
    supported.require_family(model, method)
    for layer in supported.self_attentions(model):
        supported.require_supported(layer, method)


def place(model: Any, method: AttentionMethod, *, class_token_in_mean: bool) -> None:
    """Adds the method to every self-attention layer; its parameters are one number a head."""
    for layer in layers.prepare(model, class_token_in_mean=class_token_in_mean):
        place_in(layer.attention, method)


def require_removable(model: nn.Module) -> None:
    """Raises ModelError where a method neither is off nor folds into CaiT's talking heads."""
    for layer in _holders(model):
        layers.require_restorable(layer)
        attention = layer.attention
        if not (isinstance(attention, scaled.ScaledTalkingHeads) and attention.is_mixed):
            layers.require_off(model, attention.method, attention, layer.name)


def restore(model: Any) -> None:
    """Folds methods into CaiT's talking heads, and drops those that are off."""
    for layer in _holders(model):
        _remove(layer.attention, model)


def _holders(model: nn.Module) -> list[supported.Layer]:
    return [layer for layer in supported.scaled_layers(model) if layer.attention.method is not None]


def place_in(attention: Any, method: AttentionMethod) -> None:
    """Adds the method to one layer that is prepared."""
    attention.method = method
    weight, num_heads = attention.proj.weight, attention.num_heads
    layers.register(attention, method.parameters, weight, num_heads)
    if constants := method.constants(num_heads):
        attention.register_buffer(
            "method_constants", weight.new_tensor(constants), persistent=False
        )
    attention.explicit = supported.needs_matrix(attention, method)
    if not attention.explicit:
        if method.needs_values and attention.can_defer_values:
            attention.qkv.__class__ = scaled.DeferredLinear
        return
    # Swin-V2 builds the matrix always
    if hasattr(attention, "fused_attn"):
        attention.was_fused, attention.fused_attn = attention.fused_attn, False
    attention.attn_drop.__class__ = scaled.ExplicitDropout
    attention.attn_drop.attention = (attention,)


def _remove(attention: Any, model: Any) -> None:
    if isinstance(attention, scaled.ScaledTalkingHeads) and attention.is_mixed:
        _fold_mixing(attention, model.get_submodule("patch_embed"))
    if isinstance(attention.attn_drop, scaled.ExplicitDropout):
        delattr(attention.attn_drop, "attention")
        attention.attn_drop.__class__ = nn.Dropout  # type: ignore[assignment]
    if isinstance(attention.qkv, scaled.DeferredLinear):
        attention.qkv.__class__ = nn.Linear  # type: ignore[assignment]
    if hasattr(attention, "was_fused"):
        attention.fused_attn = attention.was_fused
    attention._buffers.pop("method_constants", None)
    method, attention.method = attention.method, None
    layers.release(attention, method, attention)


def _fold_mixing(attention: scaled.ScaledTalkingHeads, patch_embed: Any) -> None:
    with torch.no_grad():
        weight, bias = attention.mixing(patch_embed.num_patches)
        attention.proj_w.weight.copy_(weight)
        attention.proj_w.bias.copy_(bias)
