"""What a forward pass shows of a model that stays as it is: the tokens between its blocks, and its
attention maps.

B images (for Swin's attention: windows of images), N tokens, C channels, H heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from timm.models.cait import LayerScaleBlockClassAttn, TalkingHeadAttn
from torch import Tensor, nn

from antioversmooth.models.attention import ScaledAttention, WindowMean


@dataclass(frozen=True)
class Attended:
    """A self-attention layer at work on one batch."""

    layer: Any
    """timm's module, with or without the scalings."""
    tokens: Tensor
    """X, what the layer is given. Shape: [B, N, C]."""
    unscaled: Tensor
    """A, before a method: the softmax. CaiT's comes behind its talking heads and contains the
    method. [B, H, N, N]."""
    map: Tensor
    """A_hat, which multiplies the values: A where there is no method. Shape: [B, H, N, N]."""
    output: Tensor
    """What the layer gives, behind its projection. Shape: [B, N, C]."""


def self_attention_blocks(model: nn.Module) -> list[nn.Module]:
    """The blocks whose tokens attend to one another, in the order they run; CaiT's class attention
    is none."""
    return [
        module
        for module in model.modules()
        if "attn" in module._modules and not isinstance(module, LayerScaleBlockClassAttn)
    ]


def num_prefix_tokens(model: nn.Module) -> int:
    """Tokens in front of the patches (class, distillation, registers) that run through the
    self-attention blocks."""
    # Swin, CaiT
    without = getattr(model, "output_fmt", "NLC") == "NHWC" or hasattr(model, "blocks_token_only")
    return 0 if without else int(getattr(model, "num_prefix_tokens", 0))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in evaluation mode and nothing is kept for gradients; afterwards it is
    as it was."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


@contextmanager
def watching_tokens(model: nn.Module, see: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Inside, each forward pass calls `see(layer, tokens)` with the tokens after each block, [B, N,
    C].

    Layers count from 1, layer 0 is what enters the first block. Swin's maps [B, height, width, C]
    come flattened.
    """

    def flat(tokens: Tensor) -> Tensor:
        return tokens.flatten(1, 2) if tokens.ndim == 4 else tokens

    def seen_before(block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        see(0, flat(inputs[0]))

    blocks = self_attention_blocks(model)
    with ExitStack() as hooks:
        hooks.enter_context(blocks[0].register_forward_pre_hook(seen_before))
        for number, block in enumerate(blocks, start=1):

            def seen_after(
                block: nn.Module, inputs: object, output: Tensor, number: int = number
            ) -> None:
                see(number, flat(output))

            hooks.enter_context(block.register_forward_hook(seen_after))
        yield


@contextmanager
def watching_attention(model: nn.Module, see: Callable[[int, Attended], None]) -> Iterator[None]:
    """Inside, each forward pass in evaluation mode calls `see(layer, attended)` for each block,
    which counts from 1.

    timm's attention builds its map only while its fused form is off, and hands it to its dropout,
    where it is read.
    """
    with ExitStack() as hooks:
        for number, block in enumerate(self_attention_blocks(model), start=1):
            layer: Any = block.attn
            hooks.enter_context(_unfused(layer))
            hooks.enter_context(_watching_layer(layer, partial(see, number)))
        yield


@contextmanager
def _watching_layer(layer: Any, see: Callable[[Attended], None]) -> Iterator[None]:
    maps: list[Tensor] = []

    def keep(dropout: nn.Module, inputs: tuple[Tensor]) -> None:
        maps.append(inputs[0])

    def seen(layer: Any, inputs: tuple[Any, ...], options: dict[str, Any], output: Tensor) -> None:
        attention = maps.pop()
        if isinstance(layer, WindowMean) and layer.defers_projection:
            output = layer.projection(output)
        see(
            Attended(
                layer, inputs[0], attention, _scaled(layer, attention, inputs, options), output
            )
        )

    with (
        layer.attn_drop.register_forward_pre_hook(keep),
        layer.register_forward_hook(seen, with_kwargs=True),
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


def _scaled(
    layer: Any, attention: Tensor, inputs: tuple[Any, ...], options: dict[str, Any]
) -> Tensor:
    """The map with the layer's method applied; A_LP is the layer's own mean, of the unit
    vectors."""
    if (
        not isinstance(layer, ScaledAttention)
        or layer.method is None
        or isinstance(layer, TalkingHeadAttn)
    ):
        # CaiT's is part of its talking heads, and so of the map, already
        return attention
    B, _, N, _ = attention.shape
    unit_vectors = torch.eye(N, dtype=attention.dtype, device=attention.device).expand(B, N, N)
    low_pass = layer.mean(unit_vectors, *inputs[1:], **options)
    per_head = [parameter[:, None, None] for parameter in layer.method_parameters]
    return layer.method.matrix(attention, low_pass[:, None], *per_head)
