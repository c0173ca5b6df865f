"""The scalings as the released code writes them out: attention matrix built, split, scaled and
multiplied.

An independent reference: a stock timm model whose modules between softmax and product with V
(`attn_drop`), and behind the attention, are exchanged for what follows. Every parameter keeps its
name but AttnScale's `attn.attn_drop.lamb`.
"""

from __future__ import annotations

import copy
from types import MethodType
from typing import Any

import torch
from timm.models.cait import ClassAttn
from timm.models.swin_transformer import SwinTransformerBlock
from timm.models.swin_transformer_v2 import SwinTransformerV2Block
from timm.models.swin_transformer_v2_cr import SwinTransformerV2CrBlock
from torch import Tensor, nn


class SplitAttention(nn.Module):
    """A_hat = A_LP + (1 + w) (A - A_LP), A_LP = 11^T / N; then attention dropout."""

    def __init__(self, dropout: nn.Dropout, num_heads: int, excluded: int) -> None:
        super().__init__()
        self.dropout, self.excluded = dropout, excluded
        self.lamb = nn.Parameter(torch.zeros(num_heads))

    def forward(self, attention: Tensor) -> Tensor:
        num_tokens = attention.shape[-1]
        low_pass = torch.zeros_like(attention)
        low_pass[..., self.excluded :] = 1 / (num_tokens - self.excluded)
        high_pass = attention - low_pass
        scaled = low_pass + (1 + self.lamb[:, None, None]) * high_pass
        # heads first in memory: a dropout mask is drawn in that order
        dropped: Tensor = self.dropout(scaled.contiguous())
        return dropped


def split_features(x: Tensor, block: Any, doubled: bool, excluded: int) -> Tensor:
    """x + s DC[x] + t HC[x], the two terms added twice where `doubled`, as in the released DeiT
    code."""
    tokens = x.flatten(1, -2)
    low_pass = tokens[:, excluded:].mean(1, keepdim=True).expand_as(tokens)
    high_pass = tokens - low_pass
    added = block.lamb1 * low_pass + block.lamb2 * high_pass
    tokens = tokens + added
    if doubled:
        tokens = tokens + added
    scaled: Tensor = tokens.view_as(x)
    return scaled


def textbook(
    model: nn.Module,
    *,
    attnscale: bool = False,
    featscale: bool = False,
    doubled: bool = False,
    excluded: int = 0,
) -> nn.Module:
    """A copy of a stock model with zero scales, in the explicit form."""
    model = copy.deepcopy(model)
    for block in [
        m for m in model.modules() if "attn" in m._modules and not isinstance(m.attn, ClassAttn)
    ]:
        attention: Any = block.attn
        if attnscale:
            attention.fused_attn = False
            attention.attn_drop = SplitAttention(attention.attn_drop, attention.num_heads, excluded)
        if featscale:
            _split_behind(block, doubled, excluded)
    return model


class SplitBehind:
    """A forward hook that scales what an attention layer gives; copied along with the model that it
    is in."""

    def __init__(self, block: nn.Module, doubled: bool, excluded: int) -> None:
        self.block, self.doubled, self.excluded = block, doubled, excluded

    def __call__(self, _: nn.Module, __: Any, output: Tensor) -> Tensor:
        return split_features(output, self.block, self.doubled, self.excluded)


_MAP_BRANCHES = {
    SwinTransformerBlock: "_attn",
    SwinTransformerV2Block: "_attn",
    SwinTransformerV2CrBlock: "_shifted_window_attn",
}
"""timm's names for the attention branch of blocks with windows."""


def _split_map(block: Any, x: Tensor) -> Tensor:
    """Behind the merging of windows and the undoing of the shift."""
    stock = getattr(type(block), _MAP_BRANCHES[type(block)])
    return split_features(stock(block, x), block, doubled=False, excluded=0)


def _split_behind(block: Any, doubled: bool, excluded: int) -> None:
    dim = block.attn.proj.out_features
    block.lamb1, block.lamb2 = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(dim))
    if type(block) in _MAP_BRANCHES:
        setattr(block, _MAP_BRANCHES[type(block)], MethodType(_split_map, block))
    else:
        block.attn.register_forward_hook(SplitBehind(block, doubled, excluded))


def named(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters under the names that the package gives them."""
    return {name.replace("attn_drop.lamb", "lamb"): p for name, p in model.named_parameters()}


def share_random_scales(*models: nn.Module, std: float = 0.3) -> None:
    """The same non-zero scales in each of the models, and all else that the first one holds."""
    first = named(models[0])
    with torch.no_grad():
        for name, parameter in first.items():
            if "lamb" in name:
                parameter.normal_(std=std)
        for model in models[1:]:
            for name, parameter in named(model).items():
                parameter.copy_(first[name])
