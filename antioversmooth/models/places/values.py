"""Placing a ValueMethod: the model gives its blocks the values of the first one."""

from __future__ import annotations

from typing import Any

from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from antioversmooth.errors import ModelError
from antioversmooth.methods.values import ValueMethod
from antioversmooth.models import supported
from antioversmooth.models.places import attention, layers
from antioversmooth.models.values import DistilledValueTransformer, ValueBlock, ValueTransformer

_CLASSES: dict[type[nn.Module], type[ValueTransformer]] = {
    VisionTransformer: ValueTransformer,
    VisionTransformerDistilled: DistilledValueTransformer,
}


def require_supported(model: Any, method: ValueMethod) -> None:
    """Raises ModelError where the method is not defined for the model."""
    refused = f"{method.title} does not go into this {type(model).__name__}"
    if type(model) not in _CLASSES:
        names = " and ".join(kind.__name__ for kind in _CLASSES)
        raise ModelError(f"{refused}: it is defined for timm's {names}")
    for field, expected in method.misfits(len(model.blocks), distilled=False):
        raise ModelError(f"{refused}: {field} should be {expected}")
    attention.require_supported(model, method)
    for name, block, layer in supported.self_attentions(model):
        if type(block) is not Block:
            raise ModelError(f"{refused}: {name} is in a {supported.path_of(type(block))}")
        if layer.attn_drop.p > 0:
            raise ModelError(
                f"{refused}: {name} has dropout on attention weights, which would also drop"
                " values of the first layer"
            )
        if not isinstance(layer.norm, nn.Identity):
            raise ModelError(f"{refused}: {name} has a norm in front of its projection")


def place(model: Any, method: ValueMethod, *, class_token_in_mean: bool) -> None:
    """Adds the method to every block of a supported model but the first."""
    _, *others = layers.prepare(model, class_token_in_mean=class_token_in_mean)
    for _, block, layer in others:
        attention.place_in(layer, method)
        block.__class__ = ValueBlock
    model.__class__ = _CLASSES[type(model)]


def require_removable(model: nn.Module) -> None:
    """Leaves it to the place of an AttentionMethod, which removes none without parameters."""


def restore(model: nn.Module) -> None:
    """Does nothing: a model with the method is not removable."""
