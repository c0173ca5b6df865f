"""What a model weighs and costs: parameters, multiply-adds, and two exact measures of memory
traffic.

Bytes saved for backward and bytes moved by the operations of a step repeat to the last digit on any
machine, however loaded it is; a timing does not.
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
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(model: nn.Module) -> int:
    """Numbers that training can change, scales included."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def multiply_adds(model: nn.Module, image_shape: Sequence[int]) -> float:
    """G multiply-adds of one image's forward pass: matrix products, convolutions and attention,
    nothing else.

    Nothing is computed: a copy of the model runs on shapes alone.

    Args:
        image_shape: [channels, height, width]
    """
    shapes = copy.deepcopy(model).to("meta").eval().requires_grad_(False)
    counter = FlopCounterMode(display=False)
    with counter:
        shapes(torch.empty(1, *image_shape, device="meta"))
    # the counter takes a multiply-add for two operations
    return counter.get_total_flops() / 2 / 1e9


@dataclass(frozen=True)
class Traffic:
    """Memory that one forward and backward pass needs and moves, in eager mode and in bytes."""

    saved: int
    """Kept from the forward for the backward pass, parameters left out."""
    moved: int
    """Read and written by all operations but views."""


def step_traffic(model: nn.Module, images_shape: Sequence[int]) -> Traffic:
    """What a pass over images costs; a copy of the model runs on shapes alone, with the operations
    of its device.

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
    """Bytes that autograd keeps for the backward pass of `forward`: distinct storages, the
    parameters' own left out."""
    parameters = {p.untyped_storage()._cdata for p in model.parameters()}
    storages: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in parameters:
            storages[storage._cdata] = storage.nbytes()
        # the tensor itself would tie an output to its own graph, for ever
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        # alive until all is counted, and with it every storage
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
