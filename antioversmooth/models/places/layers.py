"""Attention layers that can hold methods: their classes, swapped in and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from antioversmooth.errors import ModelError
from antioversmooth.methods import Method, Parameter
from antioversmooth.models import attention as scaled
from antioversmooth.models import supported

_ATTRIBUTES = ("method", "features", "excluded", "explicit", "was_fused")
"""Attributes of an attention layer that holds methods, besides parameters."""
_STOCK = {
    placed: stock
    for table in (supported.ATTENTION, supported.MAP_BLOCKS)
    for stock, placed in table.items()
}


def prepare(model: nn.Module, *, class_token_in_mean: bool) -> list[supported.Layer]:
    """The self-attention layers of a model, each of the class that holds methods."""
    layers = supported.self_attentions(model)
    excluded = [0] * len(layers)
    if not class_token_in_mean:
        excluded = supported.num_prefix_tokens(model, layers)
    for layer, leading in zip(layers, excluded, strict=True):
        if not isinstance(layer.attention, scaled.ScaledAttention):
            _prepare(layer.attention, leading)
    return layers


def _prepare(attention: Any, excluded: int) -> None:
    # the modules themselves stay: their parameters, names and hooks, and references to them
    attention.__class__ = supported.ATTENTION[type(attention)]
    attention.proj.__class__ = scaled.DeferredLinear
    attention.proj_drop.__class__ = scaled.DeferredDropout
    attention.method = attention.features = None
    attention.excluded, attention.explicit = excluded, False


def require_restorable(layer: supported.Layer) -> None:
    """Raises ModelError where a layer that was deferred, or is to be folded into, was changed."""
    name, _, attention = layer
    scaled.deferred_weights(attention, "proj")
    for part, linear in attention.named_children():
        if isinstance(linear, scaled.DeferredLinear):
            scaled.require_not_parametrized(f"{name}.{part}", linear, "remove_method")
    if isinstance(attention, scaled.ScaledTalkingHeads) and attention.is_mixed:
        scaled.applied_weights(attention, "proj_w")
        scaled.require_not_parametrized(f"{name}.proj_w", attention.proj_w, "remove_method")


def register(
    owner: nn.Module, parameters: Sequence[Parameter], like: nn.Parameter, size: int
) -> None:
    """Registers the parameters of a method at zero, on the device and in the type of another."""
    for parameter in parameters:
        owner.register_parameter(parameter.name, nn.Parameter(like.new_zeros(size)))


def require_off(model: nn.Module, method: Method, owner: nn.Module, prefix: str) -> None:
    """Raises ModelError where a method is not off, so that its layer is not timm's.

    Args:
        owner: The module that its parameters belong to.
        prefix: The name of that module.
    """
    keys = [f"{prefix}.{p.name}" for p in method.parameters if getattr(owner, p.name).any()]
    if method.parameters and method.is_exact_at_start and not keys:
        return
    what = f"{keys[0]} is not zero and" if keys else f"{method.title} of {prefix}"
    raise ModelError(
        f"{what} cannot be folded into the weights of {type(model).__name__}: its term is different"
        " for each image. In CaiT, AttnScale and other methods that take multiples of attention and"
        " of the mean fold. To drop it, set it to zero first; to run the model without this"
        " package, torch.export it"
    )


def release(attention: Any, method: Method, owner: nn.Module) -> None:
    """Drops the parameters of a method, and gives back timm's classes where it was the last one."""
    for parameter in method.parameters:
        delattr(owner, parameter.name)
    if attention.method is not None or attention.features is not None:
        return
    attention.proj.__class__, attention.proj_drop.__class__ = nn.Linear, nn.Dropout
    for name in _ATTRIBUTES:
        vars(attention).pop(name, None)
    restore_class(attention)


def restore_class(module: Any) -> None:
    """Gives a module of ours the class that timm built it with."""
    module.__class__ = _STOCK.get(type(module), type(module))
