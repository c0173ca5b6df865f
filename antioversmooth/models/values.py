"""timm's vision transformer with the values of its first layer in all others.

B images, N tokens, C channels. They are computed once more in front of the blocks, from the first
layer's weights, and go to each block as an argument: checkpointing computes a block again from its
arguments, and no two forward passes share anything.
"""

from __future__ import annotations

from typing import Any

from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from antioversmooth.errors import ModelError


class ValueBlock(Block):
    """A block whose attention has the values of the first layer for the time of a call."""

    def forward(self, x: Tensor, first_values: Tensor) -> Tensor:  # type: ignore[override]
        """[B, N, C] -> [B, N, C]; first_values: v0, [B, N, C], heads side by side."""
        attention: Any = self.attn
        attention.first_values = first_values
        try:
            output: Tensor = super().forward(x)
        finally:
            attention.first_values = None
        return output


class ValueTransformer(VisionTransformer):
    """Its blocks are ValueBlocks, but for the first one."""

    def forward_features(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """[B, channels, side, side] -> [B, N, C], normalised.

        Raises:
            ModelError: With a mask.
        """
        if attn_mask is not None or is_causal:
            raise ModelError(
                "NeuTRENO does not support attention masks: call the model without one"
            )
        x = self.norm_pre(self.patch_drop(self._pos_embed(self.patch_embed(x))))
        first, *others = self.blocks
        first_values = first.attn.value(first.norm1(x))  # type: ignore[union-attr, operator]
        x = self._through(first, x)
        for block in others:
            x = self._through(block, x, first_values)
        normalised: Tensor = self.norm(x)
        return normalised

    def _through(self, block: Any, *inputs: Tensor) -> Tensor:
        """Tokens behind a block, which computes again in the backward pass where timm's would."""
        if self.grad_checkpointing:
            again: Tensor = checkpoint(block, *inputs, use_reentrant=False)
            return again
        tokens: Tensor = block(*inputs)
        return tokens

    def forward_intermediates(self, *args: Any, **kwargs: Any) -> Any:
        """Refused: timm's would give no block the values of the first layer.

        Raises:
            ModelError: Always.
        """
        raise ModelError(
            "NeuTRENO does not support forward_intermediates: use forward hooks on the blocks"
        )


class DistilledValueTransformer(ValueTransformer, VisionTransformerDistilled):
    """The same with a distillation token."""
