"""Hooks on an unchanged model: the tokens between its blocks, and its attention maps.

B images (for Swin's attention: windows of images), N tokens, C channels, H heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from timm.models.cait import Cait, LayerScaleBlockClassAttn
from torch import Tensor, nn

from antioversmooth.models.attention import ScaledAttention, ScaledTalkingHeads, WindowMean
from antioversmooth.models.reattention import MixingDropout
from antioversmooth.models.staged import StagedVisionTransformer


@dataclass(frozen=True)
class AttentionActivations:
    """Inputs, maps and outputs of a self-attention layer for one batch."""

    layer: Any
    """timm's module, with or without the scalings."""
    tokens: Tensor
    """X, the input of the layer. Shape: [B, N, C]."""
    unscaled: Tensor
    """A, the softmax, before the method; [B, H, N, N]. CaiT's is taken after its talking heads, and
    contains the method."""
    map: Tensor
    """A_hat, the matrix that multiplies the values; equals A without a method; [B, H, N, N]."""
    output: Tensor
    """Output of the layer, after its projection. Shape: [B, N, C]."""


def self_attention_blocks(model: nn.Module) -> list[nn.Module]:
    """The blocks with self-attention, in the order they run; without those of class attention."""
    return [
        module
        for module in model.modules()
        if "attn" in module._modules and not isinstance(module, LayerScaleBlockClassAttn)
    ]


def num_prefix_tokens(model: nn.Module, layer: int) -> int:
    """Number of tokens before the patches (class, distillation, registers) after a self-attention
    block.

    Args:
        layer: Number of the block, from 1; 0: before the first block.
    """
    # Swin, CaiT
    without = getattr(model, "output_fmt", "NLC") == "NHWC" or isinstance(model, Cait)
    if without or (isinstance(model, StagedVisionTransformer) and model.entrance >= max(layer, 1)):
        return 0
    return int(getattr(model, "num_prefix_tokens", 0))


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients within the block; restores the mode afterwards."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


@contextmanager
def hook_tokens(model: nn.Module, callback: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Calls `callback(layer, tokens)` with the tokens [B, N, C] after each block of a forward pass.

    Layers count from 1; layer 0 is the input of the first block. Swin's maps [B, height, width, C]
    are flattened.
    """

    def flat(tokens: Tensor) -> Tensor:
        return tokens.flatten(1, 2) if tokens.ndim == 4 else tokens

    def before(block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        callback(0, flat(inputs[0]))

    blocks = self_attention_blocks(model)
    with ExitStack() as hooks:
        hooks.enter_context(blocks[0].register_forward_pre_hook(before))
        for number, block in enumerate(blocks, start=1):

            def after(
                block: nn.Module, inputs: object, output: Tensor, number: int = number
            ) -> None:
                callback(number, flat(output))

            hooks.enter_context(block.register_forward_hook(after))
        yield


@contextmanager
def hook_attention(
    model: nn.Module, callback: Callable[[int, AttentionActivations], None]
) -> Iterator[None]:
    """Calls `callback(layer, activations)` for each block of a forward pass in evaluation mode.

    Layers count from 1. timm's attention computes its map only with the fused form off, and passes
    it to its dropout, where the hook reads it.
    """
    with ExitStack() as hooks:
        for number, block in enumerate(self_attention_blocks(model), start=1):
            layer: Any = block.attn
            hooks.enter_context(_unfused(layer))
            hooks.enter_context(_hook_layer(layer, partial(callback, number)))
        yield


@contextmanager
def _hook_layer(layer: Any, callback: Callable[[AttentionActivations], None]) -> Iterator[None]:
    maps: list[Tensor] = []

    def keep_map(dropout: nn.Module, inputs: tuple[Tensor]) -> None:
        maps.append(inputs[0])

    def after(layer: Any, inputs: tuple[Any, ...], options: dict[str, Any], output: Tensor) -> None:
        # the same map again where the layer attends twice
        attention = maps.pop()
        maps.clear()
        if isinstance(layer, WindowMean) and layer.defers_projection:
            output = layer.projection(output)
        scaled = _scaled_map(layer, attention, inputs, options)
        callback(AttentionActivations(layer, inputs[0], attention, scaled, output))

    with (
        layer.attn_drop.register_forward_pre_hook(keep_map),
        layer.register_forward_hook(after, with_kwargs=True),
    ):
        yield


@contextmanager
def _unfused(layer: Any) -> Iterator[None]:
    # Swin-V2 has no fused form
    fused = getattr(layer, "fused_attn", None)
    if fused is not None:
        layer.fused_attn = False
    try:
        yield
    finally:
        if fused is not None:
            layer.fused_attn = fused


def _scaled_map(
    layer: Any, attention: Tensor, inputs: tuple[Any, ...], options: dict[str, Any]
) -> Tensor:
    """The map with the layer's method applied; A_LP is the layer's mean of the unit vectors."""
    if isinstance(layer.attn_drop, MixingDropout):
        mixed: Tensor = layer.attn_drop.mixing[0](attention)
        return mixed
    if not isinstance(layer, ScaledAttention) or layer.method is None:
        return attention
    # the method is part of CaiT's talking heads, and so in the map already
    if isinstance(layer, ScaledTalkingHeads) and layer.is_mixed:
        return attention
    B, _, N, _ = attention.shape
    unit_vectors = torch.eye(N, dtype=attention.dtype, device=attention.device).expand(B, N, N)
    low_pass = layer.mean(unit_vectors, *inputs[1:], **options)
    per_head = [parameter[:, None, None] for parameter in layer.method_parameters]
    return layer.method.matrix(attention, low_pass[:, None], *per_head)
