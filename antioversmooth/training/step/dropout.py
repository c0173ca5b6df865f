"""Dropout and drop path by sample: what falls out does not depend on the pass, or on the process,
that a sample is in.

timm's layers draw one mask for whatever batch they are given. Here it is drawn for fixed groups of
the global batch, each seeded by the run's seed, the step, the layer and the number of the group,
and a pass takes the rows of its samples. An operation of our own draws. It has no state: a block
that is computed again draws again what it drew, and torch.compile takes the operation as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, partial
from typing import Any

import torch
from timm.layers.drop import DropPath
from timm.models.cait import LayerScaleBlock
from torch import Tensor, nn

from antioversmooth.config import RecipeConfig
from antioversmooth.models.attention import DeferredDropout, ExplicitDropout
from antioversmooth.training.randomness import seed_for


class Dropping:
    """Has a model's layers drop by sample, and tells them which samples they are given.

    Attention dropout takes timm's explicit path: fused attention draws within its kernel.

    Args:
        model: Its layers are exchanged, for ones with the same names and parameters.
        seed: The run's.
    """

    def __init__(self, model: nn.Module, recipe: RecipeConfig, *, seed: int) -> None:
        self.place = torch.tensor([seed, 0, 0, 0])
        for layer, module in enumerate(_dropping(model)):
            module.__class__ = _PLACED[type(module)]
            module.place, module.layer = self.place, layer
            # one number a sample is soon drawn for all; else for groups, of which a pass of mixed
            # images has whole ones
            module.group = (
                recipe.global_batch if isinstance(module, DropPath) else max(1, recipe.mix_group)
            )
        attentions: list[Any] = [
            module for module in model.modules() if getattr(module, "fused_attn", False)
        ]
        for attention in attentions:
            attention.fused_attn = _rate(attention.attn_drop) == 0

    def at(self, step: int, first: int, samples: int) -> None:
        """The next pass is of so many samples of a step, from the `first` of its global batch
        on."""
        self.place[1:] = torch.tensor([step, first, samples])


def _dropping(model: nn.Module) -> Iterator[Any]:
    """The layers that drop anything, in the order of the model."""
    for block in list(model.modules()):
        if type(block) is LayerScaleBlock:
            _part_paths(block)
    return (module for module in model.modules() if _rate(module) > 0)


def _rate(module: Any) -> float:
    if isinstance(module, nn.Dropout):
        return module.p
    return float(module.drop_prob) if isinstance(module, DropPath) else 0.0


@cache
def _generator(device: torch.device) -> torch.Generator:
    return torch.Generator(device)


@torch.library.custom_op("antioversmooth::kept", mutates_args=())
def kept(
    place: Tensor,
    layer: int,
    group: int,
    shape: Sequence[int],
    keep: float,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """1 with probability `keep`, else 0, as drawn for the samples of a pass. Shape: `shape`.

    Args:
        place: Seed, step, first sample in the global batch, samples; [4] on the CPU: reading it
            waits for nobody.
        layer: Number of the layer.
        group: Samples that share a draw.
        shape: The first dimension holds the samples, each with all of its windows.
    """
    seed, step, first, samples = place.tolist()
    rows = shape[0] // samples
    groups = range(first // group, (first + samples - 1) // group + 1)
    drawn = torch.empty((len(groups) * group * rows, *shape[1:]), dtype=dtype, device=device)
    generator = _generator(device)
    for number, part in zip(groups, drawn.split(group * rows), strict=True):
        generator.manual_seed(seed_for(seed, "dropout", step, layer, number))
        part.bernoulli_(keep, generator=generator)
    if len(drawn) == shape[0]:
        return drawn
    start = (first - groups[0] * group) * rows
    return drawn[start : start + shape[0]].clone()


@kept.register_fake
def _(
    place: Tensor,
    layer: int,
    group: int,
    shape: Sequence[int],
    keep: float,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=device)


class OneKernel(torch.autograd.Function):
    """As torch's own dropout on a GPU: one kernel each way, and one byte an element is kept for the
    way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, factor: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.factor = factor
        result: Tensor = torch.ops.aten.native_dropout_backward(x, mask, factor)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return torch.ops.aten.native_dropout_backward(gradient, mask, ctx.factor), None, None


class PlacedDropout(nn.Dropout):
    """Dropout by sample."""

    place: Tensor
    layer: int
    group: int

    def forward(self, input: Tensor) -> Tensor:
        """[B or B * windows, ...] -> the same."""
        if not self.training:
            return input
        keep = 1 - self.p
        draw = partial(
            kept, self.place, self.layer, self.group, input.shape, keep, device=input.device
        )
        if not input.is_cuda:
            factor: Tensor = draw(dtype=input.dtype).div_(keep)
            return input * factor
        result: Tensor = OneKernel.apply(input, draw(dtype=torch.bool), 1 / keep)
        return result


class PlacedDeferredDropout(DeferredDropout, PlacedDropout):
    """The one that ends a scaled attention layer."""


class PlacedExplicitDropout(ExplicitDropout, PlacedDropout):
    """The one on an attention matrix that a method has rescaled."""


class PlacedDropPath(DropPath):
    """Drop path by sample."""

    place: Tensor
    layer: int
    group: int

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] -> the same."""
        if not self.training:
            return x
        keep = 1 - self.drop_prob
        shape = (len(x), *[1] * (x.ndim - 1))
        factor: Tensor = kept(
            self.place, self.layer, self.group, shape, keep, x.dtype, x.device
        ).div_(keep)
        return x * factor


class TwoPathBlock(LayerScaleBlock):
    """A block of CaiT whose two branches have a drop path each: timm calls one for both, and each
    has its own draw."""

    drop_path_mlp: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, C] -> the same."""
        x = x + self.drop_path(self.gamma_1 * self.attn(self.norm1(x)))
        result: Tensor = x + self.drop_path_mlp(self.gamma_2 * self.mlp(self.norm2(x)))
        return result


def _part_paths(block: Any) -> None:
    if _rate(block.drop_path) > 0:
        block.drop_path_mlp = DropPath(block.drop_path.drop_prob, block.drop_path.scale_by_keep)
        block.__class__ = TwoPathBlock


_PLACED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Dropout: PlacedDropout,
    DeferredDropout: PlacedDeferredDropout,
    ExplicitDropout: PlacedExplicitDropout,
    DropPath: PlacedDropPath,
}
