"""Placing a MixingMethod: between attention dropout and the product with the values."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from antioversmooth.errors import ModelError
from antioversmooth.methods.mixing import MixingMethod
from antioversmooth.models import supported
from antioversmooth.models.attention import unsupported_layer
from antioversmooth.models.reattention import HeadMixing, MixingDropout


def require_supported(model: nn.Module, method: MixingMethod) -> None:
    """Raises ModelError, with the layer's name, where heads cannot be mixed."""
    supported.require_family(model, method)
    for name, _, attention in supported.self_attentions(model):
        if type(attention.attn_drop) is not nn.Dropout:
            raise ModelError(
                f"{method.title} does not go into {name}, whose attn_drop is a"
                f" {supported.path_of(type(attention.attn_drop))}"
            )
        if not isinstance(attention.proj.weight, Tensor):
            raise unsupported_layer(f"{name}.proj", attention.proj)


def place(model: nn.Module, method: MixingMethod, **_: bool) -> None:
    """Mixes the heads of each attention layer of a supported model, without fused attention."""
    attentions: list[Any] = [layer.attention for layer in supported.self_attentions(model)]
    for attention in attentions:
        mixing = HeadMixing(attention.num_heads, method.group).to(attention.proj.weight)
        attention.mixing, attention.fused_attn = mixing.train(attention.training), False
        attention.attn_drop.__class__ = MixingDropout
        attention.attn_drop.mixing = (mixing,)


def require_removable(model: nn.Module) -> None:
    """Raises ModelError where heads are mixed: no weight of timm's models holds that."""
    for name, module in model.named_modules():
        if isinstance(module, HeadMixing):
            raise ModelError(
                f"{name}.theta cannot be folded into the weights of {type(model).__name__}, which"
                " mixes no heads"
            )


def restore(model: nn.Module) -> None:
    """Does nothing: a model whose heads are mixed is not removable."""
