"""timm's vision transformer with tokens that enter late, and with class attention behind it.

B images, N patches, P prefix tokens (class and distillation token, registers), C channels.

    blocks[:entrance]      patch tokens only, [B, N, C]
    blocks[entrance:]      with the prefix tokens in front, [B, P + N, C]
    blocks_token_only      class attention: the class token reads the patch tokens, which stay
                           (https://arxiv.org/abs/2103.17239, and timm's CaiT)

Position embedding, its dropout and the norms are timm's: every token has the position that it has
in the plain model. With an entrance of 0 and no class attention the model is the plain model.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from timm.models.cait import LayerScaleBlockClassAttn
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer, init_weights_vit_timm
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from antioversmooth.errors import ModelError


class StagedVisionTransformer(VisionTransformer):
    """Prefix tokens pass the blocks from `entrance` on."""

    entrance: int
    """Blocks that only patch tokens pass."""

    def forward_features(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """[B, channels, side, side] -> [B, P + N, C], normalised.

        Raises:
            ModelError: With a mask, whose size could not fit all blocks.
        """
        if attn_mask is not None or is_causal:
            raise ModelError("tokens that enter late know no attention masks: call without one")
        x = self.norm_pre(self.patch_drop(self._pos_embed(self.patch_embed(x))))
        prefix, patches = x[:, : self.num_prefix_tokens], x[:, self.num_prefix_tokens :]
        blocks = list(self.blocks)
        patches = self.through(blocks[: self.entrance], patches)
        normalised: Tensor = self.norm(self.join(prefix, patches, blocks[self.entrance :]))
        return normalised

    def join(self, prefix: Tensor, patches: Tensor, blocks: Iterable[nn.Module]) -> Tensor:
        """[B, P, C] and [B, N, C] -> [B, P + N, C], through the remaining blocks."""
        return self.through(blocks, torch.cat((prefix, patches), 1))

    def through(self, blocks: Iterable[nn.Module], x: Tensor) -> Tensor:
        """Tokens behind blocks, which compute again in the backward pass where timm's would."""
        for block in blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.grad_checkpointing else block(x)
        return x

    def forward_intermediates(self, *args: Any, **kwargs: Any) -> Any:
        """Refused: timm's would pass all tokens through all blocks.

        Raises:
            ModelError: Always.
        """
        raise ModelError(
            "forward_intermediates does not know tokens that enter late: hook the blocks instead"
        )


class StagedDistilledTransformer(StagedVisionTransformer, VisionTransformerDistilled):
    """The same with a distillation token."""


class ClassAttentionTransformer(StagedVisionTransformer):
    """The class token passes blocks of class attention only."""

    blocks_token_only: nn.ModuleList

    def join(self, prefix: Tensor, patches: Tensor, blocks: Iterable[nn.Module]) -> Tensor:
        """[B, 1, C] and [B, N, C] -> [B, 1 + N, C]."""
        for block in self.blocks_token_only:
            prefix = block(patches, prefix)
        return torch.cat((prefix, patches), 1)


def class_attention_block(model: VisionTransformer, layer_scale: float) -> LayerScaleBlockClassAttn:
    """A block of class attention of the model's sizes, without any dropout, as in CaiT's code.

    Args:
        layer_scale: Start of LayerScale's factors; 0: no LayerScale.
    """
    stock: Any = model.blocks[0]
    norm: Any = type(stock.norm1)
    block = LayerScaleBlockClassAttn(
        model.embed_dim,
        stock.attn.num_heads,
        mlp_ratio=stock.mlp.fc1.out_features / model.embed_dim,
        qkv_bias=stock.attn.qkv.bias is not None,
        norm_layer=partial(norm, eps=stock.norm1.eps),  # type: ignore[arg-type]
        init_values=layer_scale or 1.0,
        device=stock.norm1.weight.device,
        dtype=stock.norm1.weight.dtype,
    )
    block.apply(init_weights_vit_timm)
    if not layer_scale:
        for factor in ("gamma_1", "gamma_2"):
            delattr(block, factor)
            setattr(block, factor, 1.0)
    return block
