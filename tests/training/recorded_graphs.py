"""CUDA graphs as far as a CPU has them: what inductor would record, and what a replay would read.

A recorded graph reads and writes the addresses of its recording. Its outputs lie in a memory that
the next step overwrites (torch/_inductor/cudagraph_trees.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import torch
from functorch.compile import make_boxed_func
from torch import Tensor, fx
from torch._dynamo.backends.common import aot_autograd
from torch._guards import TracingContext
from torch._inductor.utils import get_first_incompatible_cudagraph_node
from torch.utils._pytree import tree_iter

OVERWRITTEN = 0xFF
"""Of every byte: floats are not numbers then."""


class Graph(NamedTuple):
    """A forward or backward pass of a block, as inductor gets it."""

    module: fx.GraphModule
    metadata: Any
    """Of the forward pass: what is mutated, and which inputs keep their addresses."""
    is_backward: bool


class Recordings:
    """Stands where inductor compiles: notes the graphs, and computes them as they are.

    Outputs of a step are overwritten as the next one begins.
    """

    def __init__(self) -> None:
        self.graphs: list[Graph] = []
        self.steps: list[list[tuple[int, ...]]] = []
        """Of each step the calls: the number of a graph, and the addresses that its recording would
        read: those of parameters, buffers and draws."""
        self._outputs: list[torch.UntypedStorage] = []

    def patches(self) -> Iterator[Any]:
        """Patches of the two functions of torch that this class stands in for."""
        yield mock.patch("torch._inductor.compile_fx.compile_fx", self._compile)
        yield mock.patch("torch.compiler.cudagraph_mark_step_begin", self.begin_step)

    def begin_step(self) -> None:
        """Overwrites what the step before has computed."""
        for storage in self._outputs:
            storage.fill_(OVERWRITTEN)
        self._outputs.clear()
        self.steps.append([])

    def _compile(self, module: Any, inputs: Any, **options: Any) -> Any:
        assert options["config_patches"] == {"triton.cudagraphs": True}
        note = partial(partial, self._note)
        return aot_autograd(fw_compiler=note(False), bw_compiler=note(True))(module, inputs)

    def _note(self, is_backward: bool, module: fx.GraphModule, inputs: Any) -> Any:
        metadata, number = TracingContext.get().fw_metadata, len(self.graphs)
        self.graphs.append(Graph(module, metadata, is_backward))
        fixed = () if is_backward else tuple(metadata.static_input_indices)

        def run(*given: Any) -> Any:
            if self.steps:
                self.steps[-1].append((number, *(given[i].data_ptr() for i in fixed)))
            outputs = module(*given)
            inputs = {x.untyped_storage().data_ptr() for x in given}
            storages = [x.untyped_storage() for x in outputs if isinstance(x, Tensor)]
            self._outputs += [s for s in storages if s.data_ptr() not in inputs]
            return outputs

        return make_boxed_func(run)


def problems(graph: Graph, device: torch.device) -> Iterator[str]:
    """Why a graph could not be recorded, or not be replayed as it is."""
    fixed = set(graph.metadata.static_input_indices)
    mutated = {i for i, x in enumerate(graph.metadata.input_info) if x.mutates_data}
    if mutated - fixed:
        yield "mutates an input"
    if graph.metadata.tokens:
        yield "has effects"
    for node in graph.module.graph.nodes:
        values = [*tree_iter(node.meta.get("val"))]
        tensors = [value for value in values if isinstance(value, Tensor)]
        if any(value.device != device for value in tensors):
            yield f"{node.name} is on the host"
        if node.op == "placeholder" and len(tensors) != len(values):
            yield f"{node.name} is an input, and no tensor"
        if node.op == "get_attr":
            yield f"{node.name} is a constant of the host"
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            yield f"{node.name} draws"
    if node := get_first_incompatible_cudagraph_node(graph.module):
        yield f"torch records no {node.name}"
