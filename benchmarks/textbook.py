"""Methods as their papers write them: attention matrix built, split, scaled and multiplied.

An independent reference: a stock timm model whose modules between softmax and product with V
(`attn_drop`), and behind the attention, are replaced by modules that call `Method.textbook`. Every
parameter keeps its name but those of an AttentionMethod: `attn.attn_drop.lamb`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from types import MethodType
from typing import Any

import torch
from timm.models.cait import ClassAttn
from timm.models.swin_transformer import SwinTransformerBlock
from timm.models.swin_transformer_v2 import SwinTransformerV2Block
from timm.models.swin_transformer_v2_cr import SwinTransformerV2CrBlock
from torch import Tensor, nn

from antioversmooth.methods import (
    AttentionMethod,
    FeatureMethod,
    Method,
    Parameter,
    method_named,
    parameter_names,
)


class ExplicitAttention(nn.Module):
    """An AttentionMethod on the matrix, A_LP = 11^T / N; then attention dropout."""

    def __init__(
        self, dropout: nn.Dropout, method: AttentionMethod, num_heads: int, excluded: int
    ) -> None:
        super().__init__()
        self.dropout, self.method, self.excluded = dropout, method, excluded
        _register_zeros(self, method.parameters, num_heads)

    def forward(self, attention: Tensor) -> Tensor:
        """[B, H, N, N] -> the same."""
        num_tokens = attention.shape[-1]
        low_pass = torch.zeros_like(attention)
        low_pass[..., self.excluded :] = 1 / (num_tokens - self.excluded)
        per_head = [getattr(self, p.name)[:, None, None] for p in self.method.parameters]
        scaled = self.method.textbook(attention, low_pass, *per_head)
        # heads first in memory: a dropout mask is drawn in that order
        dropped: Tensor = self.dropout(scaled.contiguous())
        return dropped


def explicit_features(
    x: Tensor, method: FeatureMethod, block: nn.Module, *, times: int, excluded: int
) -> Tensor:
    """A FeatureMethod on a feature map [B, ..., C], with the parameters of the block."""
    tokens = x.flatten(1, -2)
    low_pass = tokens[:, excluded:].mean(1, keepdim=True).expand_as(tokens)
    parameters = [getattr(block, p.name) for p in method.parameters]
    return method.textbook(tokens, low_pass, *parameters, times=times).view_as(x)


def textbook(
    model: nn.Module,
    *,
    doubled: bool = False,
    excluded: int = 0,
    **methods_and_options: bool | dict[str, Any],
) -> nn.Module:
    """A copy of a stock model with zero parameters, in the explicit form.

    Args:
        doubled: Add the terms of a FeatureMethod twice, as the released DeiT code does.
        excluded: Leading tokens that no mean runs over.
        methods_and_options: Names of methods, each true or the options of the method.
    """
    model = copy.deepcopy(model)
    for block in [
        m for m in model.modules() if "attn" in m._modules and not isinstance(m.attn, ClassAttn)
    ]:
        attention: Any = block.attn
        for method in _methods(**methods_and_options):
            if isinstance(method, AttentionMethod):
                attention.fused_attn = False
                attention.attn_drop = ExplicitAttention(
                    attention.attn_drop, method, attention.num_heads, excluded
                )
            elif isinstance(method, FeatureMethod):
                _add_behind(block, method, 2 if doubled else 1, excluded)
    return model


def _methods(**named: bool | dict[str, Any]) -> Iterator[Method]:
    for name, options in named.items():
        if options is not False:
            yield method_named(name, **(options if isinstance(options, dict) else {}))


class FeatureHook:
    """A forward hook that scales the output of an attention layer; copied along with its model."""

    def __init__(self, method: FeatureMethod, block: nn.Module, times: int, excluded: int) -> None:
        self.method, self.block, self.times, self.excluded = method, block, times, excluded

    def __call__(self, _: nn.Module, __: Any, output: Tensor) -> Tensor:
        return explicit_features(
            output, self.method, self.block, times=self.times, excluded=self.excluded
        )


_MAP_BRANCHES = {
    SwinTransformerBlock: "_attn",
    SwinTransformerV2Block: "_attn",
    SwinTransformerV2CrBlock: "_shifted_window_attn",
}
"""timm's names for the attention branch of blocks with windows."""


def _explicit_map(block: Any, x: Tensor) -> Tensor:
    """The attention branch, scaled after windows are merged and the shift is undone."""
    stock = getattr(type(block), _MAP_BRANCHES[type(block)])
    return explicit_features(stock(block, x), block.textbook_method, block, times=1, excluded=0)


def _add_behind(block: Any, method: FeatureMethod, times: int, excluded: int) -> None:
    _register_zeros(block, method.parameters, block.attn.proj.out_features)
    if type(block) in _MAP_BRANCHES:
        block.textbook_method = method
        setattr(block, _MAP_BRANCHES[type(block)], MethodType(_explicit_map, block))
    else:
        block.attn.register_forward_hook(FeatureHook(method, block, times, excluded))


def _register_zeros(module: nn.Module, parameters: Sequence[Parameter], size: int) -> None:
    for parameter in parameters:
        module.register_parameter(parameter.name, nn.Parameter(torch.zeros(size)))


def named(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters under the names that the package gives them."""
    return {name.replace("attn_drop.", ""): p for name, p in model.named_parameters()}


def share_random_scales(*models: nn.Module, std: float = 0.3) -> None:
    """Gives each model the same random scales, and all other weights of the first one."""
    first, added = named(models[0]), parameter_names()
    with torch.no_grad():
        for name, parameter in first.items():
            if name.rpartition(".")[2] in added:
                parameter.normal_(std=std)
        for model in models[1:]:
            for name, parameter in named(model).items():
                parameter.copy_(first[name])
