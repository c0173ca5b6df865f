"""torch.compile block by block: those of a kind share one compiled function."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from antioversmooth.config import Compiler

VARIANTS = 64
"""Compiled forms of one kind of block that are kept: stages of Swin differ in size, and the first
block of a model has no drop path."""


def compile_blocks(model: nn.Module, compiler: Compiler) -> None:
    """Has the blocks of a model computed by compiled functions, in training alone.

    Swaps their classes; names, parameters, copies and evaluation stay as they are. A graph break is
    an error.
    """
    if compiler is Compiler.none:
        return
    # of the compiler itself, which looks at what enters a block
    warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf")
    dynamo = torch._dynamo.config
    dynamo.recompile_limit = max(dynamo.recompile_limit, VARIANTS)
    kinds: dict[type[nn.Module], type[nn.Module]] = {}
    for block in _blocks(model):
        stock = type(block)
        if stock not in kinds:
            kinds[stock] = _compiled_kind(stock, compiler.value)
        block.__class__ = kinds[stock]


def _blocks(model: nn.Module) -> Iterator[nn.Module]:
    """The blocks, which timm lists as `blocks`, or under a name that begins so."""
    for name, module in list(model.named_modules()):
        is_list = isinstance(module, nn.ModuleList | nn.Sequential)
        if is_list and name.rpartition(".")[2].startswith("blocks"):
            yield from module.children()


def _compiled_kind(stock: Any, backend: str) -> type[nn.Module]:
    plain = stock.forward
    compiled = torch.compile(plain, backend=backend, dynamic=False, fullgraph=True)

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return (compiled if self.training else plain)(self, *args, **kwargs)

    return type(f"Compiled{stock.__name__}", (stock,), {"forward": forward})
