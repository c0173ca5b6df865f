"""Two exact measures of memory traffic.

Bytes saved for backward and bytes moved by the operations of a step are the same on any machine,
however loaded it is; a timing is not.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass(frozen=True)
class Traffic:
    """Memory that one forward and backward pass needs and moves, in eager mode and in bytes."""

    saved: int
    """Saved by the forward for the backward pass, without parameters."""
    moved: int
    """Read and written by all operations but views."""


def step_traffic(model: nn.Module, images_shape: Sequence[int]) -> Traffic:
    """Traffic of a pass over images.

    A copy of the model runs on fake tensors, with the operations of its device.

    Args:
        images_shape: [B, channels, height, width]
    """
    shapes = copy.deepcopy(model)
    with FakeTensorMode() as mode:
        for module in shapes.modules():
            stores: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
            for tensors in stores:
                tensors.update(
                    {name: mode.from_tensor(t) for name, t in tensors.items() if t is not None}
                )
        images = torch.empty(*images_shape)
        saved = saved_bytes(lambda: shapes(images).square().sum(), shapes)
        with MovedBytes() as moved:
            shapes(images).square().sum().backward()
    return Traffic(saved, moved.total)


def saved_bytes(forward: Callable[[], Tensor], model: nn.Module) -> int:
    """Bytes that autograd saves for the backward pass of `forward`: distinct storages, without
    those of parameters."""
    parameters = {p.untyped_storage()._cdata for p in model.parameters()}
    storages: dict[int, int] = {}

    def record(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in parameters:
            storages[storage._cdata] = storage.nbytes()
        # saving the tensor itself would make a reference cycle of an output and its graph
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        # the output keeps every storage alive until all are counted
        output = forward()
    total = sum(storages.values())
    del output
    return total


class MovedBytes(TorchDispatchMode):
    """Counts, in `total`, the bytes that operations read and write inside its `with`; views move
    nothing."""

    def __init__(self) -> None:
        TorchDispatchMode.__init__(self)
        self.total = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Runs the operation."""
        output = func(*args, **(kwargs or {}))
        read, written = _tensors((args, kwargs)), _tensors(output)
        sources = {t.untyped_storage()._cdata for t in read}
        is_view = not func._schema.is_mutable and all(
            t.untyped_storage()._cdata in sources for t in written
        )
        if not is_view:
            self.total += sum(map(_touched_bytes, [*read, *written]))
        return output


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _touched_bytes(tensor: Tensor) -> int:
    """Bytes of memory behind a tensor: a broadcast dimension holds one row."""
    rows = (size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride != 0)
    return math.prod(rows) * tensor.element_size()
