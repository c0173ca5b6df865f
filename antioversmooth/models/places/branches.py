"""Placing a BranchMethod: `ls1` and `ls2` of each block, behind its two branches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from timm.layers.layer_scale import LayerScale
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn

from antioversmooth.errors import ModelError
from antioversmooth.methods.branches import BranchMethod
from antioversmooth.models import supported
from antioversmooth.models.attention import (
    require_linear,
    require_not_parametrized,
    unsupported_layer,
)
from antioversmooth.models.branches import BranchedSwinBlock, BranchFactor, fold_factor

_ENDS = {"ls1": "attn.proj", "ls2": "mlp.fc2"}
"""The places of a block, each with the linear layer that ends its branch."""


def require_supported(model: nn.Module, method: BranchMethod) -> None:
    """Raises ModelError, with the block's name, where the method has no place."""
    supported.require_family(model, method)
    for name, block, _ in supported.self_attentions(model):
        refused = f"{method.title} does not go into {name.removesuffix('.attn')}"
        if _has_layer_scale(block):
            raise ModelError(f"{refused}: it has LayerScale already")
        if type(block) is not SwinTransformerBlock and not _has_places(block):
            raise supported.UnknownLayers(
                f"{refused}, a {supported.path_of(type(block))}: it needs a block with the places"
                " ls1 and ls2, as timm's ViT has, or one of timm's Swin"
            )
        end: Any = getattr(getattr(block, "mlp", None), "fc2", None)
        if getattr(end, "weight", None) is None:
            raise supported.UnknownLayers(f"{refused}: it has no linear layer mlp.fc2")
        if not isinstance(end.weight, Tensor):
            raise unsupported_layer(f"{name.removesuffix('.attn')}.mlp.fc2", end)


def place(model: nn.Module, method: BranchMethod, **_: bool) -> None:
    """Puts the factors into each block of a supported model."""
    (parameter,) = method.parameters
    for layer in supported.self_attentions(model):
        _add(layer.block, method, parameter.name)


def require_removable(model: nn.Module) -> None:
    """Raises ModelError where a layer in front of a factor computes more than its weights say."""
    for name, block in _branched(model):
        for end in _ENDS.values():
            linear = block.get_submodule(end)
            require_linear(f"{name}.{end}", linear)
            require_not_parametrized(f"{name}.{end}", linear, "remove_method")


def restore(model: nn.Module) -> None:
    """Folds the factors into the linear layers that end their branches."""
    for _, block in list(_branched(model)):
        for place, end in _ENDS.items():
            fold_factor(getattr(block, place).factor, block.get_submodule(end))
            setattr(block, place, nn.Identity())
        if isinstance(block, BranchedSwinBlock):
            block.restore()


def _add(block: Any, method: BranchMethod, name: str) -> None:
    weight = block.mlp.fc2.weight
    if isinstance(block, SwinTransformerBlock):
        block.__class__ = BranchedSwinBlock
    size = len(weight) if method.per_channel else 1
    for place in _ENDS:
        block.add_module(place, BranchFactor(name, weight.new_full((size,), method.start)))


def _branched(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, module in model.named_modules():
        if isinstance(getattr(module, "ls1", None), BranchFactor):
            yield name, module


def _has_layer_scale(block: nn.Module) -> bool:
    found = (getattr(block, name, None) for name in ("ls1", "gamma_1"))
    return any(isinstance(one, LayerScale | nn.Parameter) for one in found)


def _has_places(block: nn.Module) -> bool:
    return all(isinstance(getattr(block, place, None), nn.Identity) for place in _ENDS)
