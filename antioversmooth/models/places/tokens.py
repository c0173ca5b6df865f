"""Placing a TokenMethod: where prefix tokens enter, class attention, registers."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import PatchDropout
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from antioversmooth.errors import ModelError
from antioversmooth.methods.tokens import TokenMethod
from antioversmooth.models.staged import (
    ClassAttentionTransformer,
    StagedDistilledTransformer,
    StagedVisionTransformer,
    class_attention_block,
    require_class_token_read,
    require_plain_block,
)

_STAGED: dict[type[nn.Module], type[StagedVisionTransformer]] = {
    VisionTransformer: StagedVisionTransformer,
    VisionTransformerDistilled: StagedDistilledTransformer,
}


def require_supported(model: Any, method: TokenMethod) -> None:
    """Raises ModelError where the method is not defined for the model."""
    refused = f"{method.title} does not go into this {type(model).__name__}"
    if type(model) not in _STAGED:
        names = " and ".join(kind.__name__ for kind in _STAGED)
        raise ModelError(f"{refused}: it is defined for timm's {names}")
    depth, distilled = len(model.blocks), isinstance(model, VisionTransformerDistilled)
    for field, expected in method.misfits(depth, distilled=distilled):
        raise ModelError(f"{refused}: {field} should be {expected}")
    if method.entrance(depth) and not model.has_class_token:
        raise ModelError(f"{refused}: it has no class token")
    if any(getattr(module, "excluded", 0) for module in model.modules()):
        raise ModelError(
            f"{refused}: means that leave its prefix tokens out are placed already; add it first"
        )
    if model.num_reg_tokens:
        raise ModelError(f"{refused}: it has {model.num_reg_tokens} registers")
    if method.num_class_blocks:
        try:
            require_class_token_read(model.global_pool)
            require_plain_block(model)
        except ModelError as err:
            raise ModelError(f"{refused}: {err}") from err


def place(model: Any, method: TokenMethod, **_: bool) -> None:
    """Adds the method's tokens and blocks to a supported model."""
    depth = len(model.blocks)
    if method.num_registers:
        _add_registers(model, method.num_registers)
    if method.entrance(depth) == 0:
        return
    if method.num_class_blocks == 0:
        model.entrance = method.entrance(depth)
        model.__class__ = _STAGED[type(model)]
        return
    added = [
        class_attention_block(model, method.class_layer_scale)
        for _ in range(method.num_class_blocks)
    ]
    model.entrance = method.entrance(depth)
    model.__class__ = ClassAttentionTransformer
    model.blocks_token_only = nn.ModuleList(added).train(model.training)
    remaining = method.num_blocks(depth)
    model.blocks, model.feature_info = model.blocks[:remaining], model.feature_info[:remaining]


def require_removable(model: nn.Module) -> None:
    """Raises ModelError where tokens enter late, which timm's model does not know."""
    if isinstance(model, StagedVisionTransformer):
        raise ModelError(
            "the class token enters late, which cannot be folded into the weights of timm's"
            " VisionTransformer; to run the model without this package, torch.export it"
        )


def restore(model: nn.Module) -> None:
    """Leaves registers, which are timm's."""


@torch.no_grad()
def _add_registers(model: Any, count: int) -> None:
    """As timm's `reg_tokens` with `no_embed_class`: patches alone have positions.

    The class token takes over its own.
    """
    if model.pos_embed is not None and not model.no_embed_class:
        if model.has_class_token:
            model.cls_token += model.pos_embed[:, :1]
        patches = model.pos_embed[:, model.num_prefix_tokens :]
        # strides as of a tensor of its own, which DistributedDataParallel expects of gradients
        model.pos_embed = nn.Parameter(patches.clone(memory_format=torch.contiguous_format))
    model.no_embed_class = True
    model.reg_token = nn.Parameter(
        model.patch_embed.proj.weight.new_empty(1, count, model.embed_dim)
    )
    # timm's start
    nn.init.normal_(model.reg_token, std=1e-6)
    model.num_reg_tokens += count
    model.num_prefix_tokens += count
    if isinstance(model.patch_drop, PatchDropout):
        model.patch_drop.num_prefix_tokens = model.num_prefix_tokens
