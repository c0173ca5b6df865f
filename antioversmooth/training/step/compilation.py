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
    # exchanges begin behind each block as it is; cut at DDP's buckets, a block would be two graphs
    dynamo.optimize_ddp = False
    kinds: dict[type[nn.Module], type[nn.Module]] = {}
    for block in _blocks(model):
        stock = type(block)
        if stock not in kinds:
            kinds[stock] = _compiled_kind(stock, compiler)
        block.__class__ = kinds[stock]


def begin_step(compiler: Compiler) -> None:
    """Lets CUDA graphs overwrite what they computed in the step before.

    A step with all its micro-batches is one sequence of graphs: the gradient of a micro-batch lies
    in their memory until the later ones have added theirs, and the update has released it.
    """
    if compiler is Compiler.reduce_overhead:
        torch.compiler.cudagraph_mark_step_begin()


def _blocks(model: nn.Module) -> Iterator[nn.Module]:
    """The blocks, which timm lists as `blocks`, or under a name that begins so."""
    for name, module in list(model.named_modules()):
        is_list = isinstance(module, nn.ModuleList | nn.Sequential)
        if is_list and name.rpartition(".")[2].startswith("blocks"):
            yield from module.children()


def _compiled_kind(stock: Any, compiler: Compiler) -> type[nn.Module]:
    plain = stock.forward
    how: dict[str, Any] = {"backend": compiler.value}
    if compiler is Compiler.reduce_overhead:
        how = {"mode": "reduce-overhead"}
    compiled = torch.compile(plain, dynamic=False, fullgraph=True, **how)

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return (compiled if self.training else plain)(self, *args, **kwargs)

    return type(f"Compiled{stock.__name__}", (stock,), {"forward": forward})
