"""Factors on the branches of a block: x + g * branch(x)."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn


class BranchFactor(nn.Module):
    """g * x, for the output x of a branch.

    Args:
        name: Of the parameter g.
        start: First value of g: [C], one number a channel, or [1], one for the branch.
    """

    def __init__(self, name: str, start: Tensor) -> None:
        super().__init__()
        self.name = name
        self.register_parameter(name, nn.Parameter(start))

    @property
    def factor(self) -> Tensor:
        """g."""
        factor: Tensor = getattr(self, self.name)
        return factor

    def forward(self, x: Tensor) -> Tensor:
        """[B, ..., C] -> the same."""
        return x * self.factor


class BranchedSwinBlock(SwinTransformerBlock):
    """A block of Swin with the places `ls1` and `ls2`, which timm's ViT has and its Swin lacks."""

    ls1: nn.Module
    ls2: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """[B, height, width, C] -> the same."""
        attention: Any = self._attn
        x = x + self.drop_path1(self.ls1(attention(self.norm1(x))))
        result: Tensor = x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))
        return result

    def restore(self) -> None:
        """Becomes timm's block again."""
        del self.ls1, self.ls2
        self.__class__ = SwinTransformerBlock  # type: ignore[assignment]


def fold_factor(factor: Tensor, linear: nn.Linear) -> None:
    """Multiplies a factor into the linear layer that ends its branch."""
    with torch.no_grad():
        linear.weight.mul_(factor[:, None])
        if linear.bias is not None:
            linear.bias.mul_(factor)
