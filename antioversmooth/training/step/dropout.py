"""Dropout and drop path by sample: masks do not depend on the micro-batch or the rank of a sample.

timm's layers draw one mask for the batch that they get. Here masks are drawn for fixed groups of
the global batch, each seeded by the run's seed, the step, the layer and the number of the group,
and a micro-batch takes the rows of its samples. A custom operator without state draws them: a block
that is recomputed draws the same mask again, and torch.compile accepts the operator.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import torch
from timm.layers.drop import DropPath
from timm.models.cait import LayerScaleBlock
from torch import Tensor, nn

from antioversmooth.config import RecipeConfig
from antioversmooth.models.attention import DeferredDropout, ExplicitDropout
from antioversmooth.models.reattention import MixingDropout
from antioversmooth.training.randomness import seed_for


class IndexedDropouts:
    """The dropout and drop path layers of a model, replaced by layers that draw by sample.

    The new layers have the names and parameters of the old ones. Layers with attention dropout take
    timm's explicit path, since fused attention draws within its kernel.
    """

    def __init__(self, model: nn.Module, recipe: RecipeConfig, *, seed: int) -> None:
        self.sample_index = torch.tensor([seed, 0, 0, 0])
        for layer, module in enumerate(_dropping_layers(model)):
            module.__class__ = _INDEXED[type(module)]
            module.sample_index, module.layer = self.sample_index, layer
            # Drop path draws one number a sample, cheap enough for the whole batch. Dropout draws
            # for groups; a micro-batch of mixed images holds whole ones.
            module.group = (
                recipe.global_batch if isinstance(module, DropPath) else max(1, recipe.mix_group)
            )
        attentions: list[Any] = [
            module for module in model.modules() if getattr(module, "fused_attn", False)
        ]
        for attention in attentions:
            attention.fused_attn = _rate(attention.attn_drop) == 0

    def set_samples(self, step: int, first: int, count: int) -> None:
        """Sets the next forward pass's samples: `count` of a step's global batch, from `first`."""
        self.sample_index[1:] = torch.tensor([step, first, count])


def _dropping_layers(model: nn.Module) -> Iterator[Any]:
    """The layers with a rate above 0, in the order of the model."""
    for block in list(model.modules()):
        if type(block) is LayerScaleBlock:
            _separate_drop_paths(block)
    return (module for module in model.modules() if _rate(module) > 0)


def _rate(module: Any) -> float:
    if isinstance(module, nn.Dropout):
        return module.p
    return float(module.drop_prob) if isinstance(module, DropPath) else 0.0


@cache
def _generator(device: torch.device) -> torch.Generator:
    return torch.Generator(device)


@torch.library.custom_op("antioversmooth::kept", mutates_args=())
def dropout_mask(
    sample_index: Tensor,
    layer: int,
    group: int,
    shape: Sequence[int],
    keep: float,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """1 with probability `keep`, else 0, drawn for the samples of a forward pass. Shape: `shape`.

    Args:
        sample_index: Seed, step, first sample in the global batch, number of samples; [4] on the
            CPU, where reading it waits for no device.
        layer: Number of the layer.
        group: Samples that share a draw.
        shape: The first dimension holds the samples, each with all of its windows.
    """
    seed, step, first, samples = sample_index.tolist()
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


dropout_mask.register_fake(
    lambda sample_index, layer, group, shape, keep, dtype, device: torch.empty(
        shape, dtype=dtype, device=device
    )
)


class FusedDropout(torch.autograd.Function):
    """torch's own dropout on a GPU: one kernel each way, and a mask of one byte an element."""

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


class Indexed(nn.Module):
    """Mixed into a layer that draws by sample; `IndexedDropouts` sets the attributes."""

    sample_index: Tensor
    layer: int
    group: int

    def draw(self, x: Tensor, shape: Sequence[int], keep: float, dtype: torch.dtype) -> Tensor:
        """The mask of this layer for an input."""
        mask: Tensor = dropout_mask(
            self.sample_index, self.layer, self.group, shape, keep, dtype, x.device
        )
        return mask


class IndexedDropout(Indexed, nn.Dropout):
    """Dropout by sample."""

    def forward(self, input: Tensor) -> Tensor:
        """[B or B * windows, ...] -> the same."""
        if not self.training:
            return input
        keep = 1 - self.p
        if not input.is_cuda:
            return input * self.draw(input, input.shape, keep, input.dtype).div_(keep)
        mask = self.draw(input, input.shape, keep, torch.bool)
        result: Tensor = FusedDropout.apply(input, mask, 1 / keep)
        return result


class IndexedDeferredDropout(DeferredDropout, IndexedDropout):
    """Dropout at the end of a scaled attention layer."""


class IndexedExplicitDropout(ExplicitDropout, IndexedDropout):
    """Dropout on an attention matrix that a method has rescaled."""


class IndexedMixingDropout(MixingDropout, IndexedDropout):
    """Dropout on an attention matrix whose heads are mixed."""


class IndexedDropPath(Indexed, DropPath):
    """Drop path by sample."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] -> the same."""
        if not self.training:
            return x
        keep = 1 - self.drop_prob
        shape = (len(x), *[1] * (x.ndim - 1))
        return x * self.draw(x, shape, keep, x.dtype).div_(keep)


class TwoPathBlock(LayerScaleBlock):
    """A block of CaiT with a drop path for each of its two branches, so that each draws its own.

    timm calls one drop path for both.
    """

    drop_path_mlp: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, C] -> the same."""
        x = x + self.drop_path(self.gamma_1 * self.attn(self.norm1(x)))
        result: Tensor = x + self.drop_path_mlp(self.gamma_2 * self.mlp(self.norm2(x)))
        return result


def _separate_drop_paths(block: Any) -> None:
    if _rate(block.drop_path) > 0:
        block.drop_path_mlp = DropPath(block.drop_path.drop_prob, block.drop_path.scale_by_keep)
        block.__class__ = TwoPathBlock


_INDEXED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Dropout: IndexedDropout,
    DeferredDropout: IndexedDeferredDropout,
    ExplicitDropout: IndexedExplicitDropout,
    MixingDropout: IndexedMixingDropout,
    DropPath: IndexedDropPath,
}
