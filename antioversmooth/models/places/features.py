"""The place of a FeatureMethod: behind the projection, channel by channel; Swin: the whole map."""

from __future__ import annotations

from typing import Any

from torch import nn

from antioversmooth.methods import FeatureMethod
from antioversmooth.models import attention as scaled
from antioversmooth.models import supported
from antioversmooth.models.places import layers


def require_supported(model: nn.Module, method: FeatureMethod) -> None:
    """Raises ModelError where the method would not be exact in the model."""
    for layer in supported.self_attentions(model):
        supported.require_supported(layer, method)


def place(model: Any, method: FeatureMethod, *, class_token_in_mean: bool) -> None:
    """Adds the method to every block with self-attention; its parameters are one number a
    channel."""
    for _, block, attention in layers.prepare(model, class_token_in_mean=class_token_in_mean):
        weight = attention.proj.weight
        layers.register(block, method.parameters, weight, weight.shape[0])
        attention.features = scaled.BlockFeatures(method, attention.family, block)
        if attention.features_on_map:
            block.__class__ = supported.MAP_BLOCKS[type(block)]


def require_removable(model: nn.Module) -> None:
    """Raises ModelError where a method is not off."""
    for layer in _holders(model):
        layers.require_restorable(layer)
        prefix = layer.name.removesuffix(".attn")
        layers.require_off(model, layer.attention.features.method, layer.block, prefix)


def restore(model: Any) -> None:
    """Drops the methods, which are off."""
    for _, block, attention in _holders(model):
        features, attention.features = attention.features, None
        layers.restore_class(block)
        layers.release(attention, features.method, block)


def _holders(model: nn.Module) -> list[supported.Layer]:
    layers_of_model = supported.scaled_layers(model)
    return [layer for layer in layers_of_model if layer.attention.features is not None]
