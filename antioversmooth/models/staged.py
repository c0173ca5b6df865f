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
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from timm.layers import Attention, LayerNorm, LayerNormFp32, Mlp, RmsNorm, RmsNormFp32
from timm.models.cait import LayerScaleBlockClassAttn
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block, VisionTransformer, init_weights_vit_timm
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from antioversmooth.errors import ModelError

_NORMS = (LayerNorm, LayerNormFp32, nn.LayerNorm, RmsNorm, RmsNormFp32)
_PARTS: dict[str, tuple[type[nn.Module], ...]] = {
    "norm1": _NORMS,
    "norm2": _NORMS,
    "attn.q_norm": (nn.Identity,),
    "attn.k_norm": (nn.Identity,),
    "attn.norm": (nn.Identity,),
    "mlp": (Mlp,),
    "mlp.norm": (nn.Identity,),
}
"""Parts of a block of timm, with their classes where a block of class attention has the like."""


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
            raise ModelError(
                "late tokens do not support attention masks: call the model without one"
            )
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
            "forward_intermediates does not support late tokens: use forward hooks on the blocks"
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

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replaces the classifier.

        Raises:
            ModelError: It would read no class token.
        """
        require_class_token_read(self.global_pool if global_pool is None else global_pool)
        super().reset_classifier(num_classes, global_pool)


def require_class_token_read(global_pool: str) -> None:
    """Raises ModelError where the features of a model are not its class token."""
    if global_pool not in ("token", ""):
        raise ModelError(
            f"only the class token passes class attention, and the classifier reads"
            f" global_pool={global_pool!r}: build the model with global_pool='token'"
        )


def require_plain_block(model: VisionTransformer) -> None:
    """Raises ModelError, with the part's name, where a block of class attention cannot be like the
    first block of the model."""
    block: Any = model.blocks[0]
    if type(block) is not Block:
        raise _another_form("blocks.0", block)
    attention: Any = block.attn
    if not isinstance(attention, Attention):
        raise _another_form("blocks.0.attn", attention)
    for name, kinds in _PARTS.items():
        part = block.get_submodule(name)
        if type(part) not in kinds:
            raise _another_form(f"blocks.0.{name}", part)
    norms: tuple[Any, ...] = (block.norm1, block.norm2)
    for norm in norms:
        if norm.state_dict().keys() != type(norm)(1).state_dict().keys():
            raise ModelError(
                "class attention needs norms with weight and bias, and blocks.0 has others"
            )
    if attention.gate is not None:
        raise ModelError("class attention does not support the gate of blocks.0.attn")
    projections: list[Any] = [block.get_submodule(name) for name in ("attn.proj", "mlp.fc1")]
    if any(linear.bias is None for linear in projections):
        raise ModelError("class attention needs a bias in each projection, and blocks.0 has none")


def _another_form(name: str, part: object) -> ModelError:
    return ModelError(
        f"{name} is a {type(part).__module__}.{type(part).__name__}, and blocks of class attention"
        " have none; where a method put it there, add class attention first"
    )


def class_attention_block(model: VisionTransformer, layer_scale: float) -> LayerScaleBlockClassAttn:
    """A block of class attention of the model's sizes, without any dropout, as in CaiT's code.

    The model's blocks have the form that `require_plain_block` asks for.

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
        act_layer=partial(deepcopy, stock.mlp.act),  # type: ignore[arg-type]
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
