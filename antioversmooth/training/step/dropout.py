"""Dropout and drop path by sample: masks do not depend on the micro-batch or the rank of a sample.

timm's layers draw one mask for the batch that they get, each at its turn. Here all masks of a
forward pass are drawn before it: those of dropout for fixed groups of the global batch, each seeded
by the run's seed, the step and the number of the group; the factors of drop path for each sample,
by the run's seed and the number of its view. The layers only multiply: a block that is computed
again meets the same mask, and torch.compile sees tensors.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from timm.layers.drop import DropPath
from timm.models.cait import LayerScaleBlock
from torch import Tensor, nn

from antioversmooth.config import RecipeConfig
from antioversmooth.models.attention import DeferredDropout, ExplicitDropout
from antioversmooth.models.reattention import MixingDropout
from antioversmooth.training.randomness import generator_on, rows_by_group, seed_for, uniform

ALIGNMENT = 16
"""Elements that the mask of a layer is padded to, so that each starts at an address which fast
kernels can read."""


class IndexedDropouts:
    """The dropout and drop path layers of a model, replaced by layers whose draws are made before.

    The new layers have the names and parameters of the old ones. Layers with attention dropout take
    timm's explicit path, since fused attention draws within its kernel.
    """

    def __init__(self, model: nn.Module, recipe: RecipeConfig, *, seed: int) -> None:
        self.seed, self.global_batch = seed, recipe.global_batch
        # a micro-batch of mixed images holds whole groups
        self.group = max(1, recipe.mix_group)
        layers = list(_dropping_layers(model))
        for module in layers:
            module.__class__ = _INDEXED[type(module)]
        self.dropouts = [module for module in layers if isinstance(module, IndexedDropout)]
        self.paths = DropPathFactors([m for m in layers if isinstance(m, IndexedDropPath)])
        self.masks: list[DropoutMasks] = []
        self._planned_for: torch.Size | None = None
        attentions: list[Any] = [
            module for module in model.modules() if getattr(module, "fused_attn", False)
        ]
        for attention in attentions:
            attention.fused_attn = _rate(attention.attn_drop) == 0
        # of the model as it is now, before anybody compiles it
        self.shapes = copy.deepcopy(model).to("meta") if self.dropouts else None

    def draw(self, step: int, first: int, images: Tensor) -> None:
        """Makes the draws of the next forward pass, of `images` [B, C, S, S].

        Those of the pass before are overwritten, so its backward pass must be over.

        Args:
            first: Position of the first image in the step's global batch.
        """
        if images.shape != self._planned_for:
            self._plan(images)
        if self.paths.layers:
            first_view = step * self.global_batch + first
            self.paths.fill(self.seed, range(first_view, first_view + len(images)))
        for number, masks in enumerate(self.masks):
            masks.fill(first, self.group, (self.seed, "dropout", step, number))

    def _plan(self, images: Tensor) -> None:
        """Makes room for the draws of passes with images of this shape."""
        self._planned_for = images.shape
        self.paths.make_room(images)
        shapes = {} if self.shapes is None else _mask_shapes(self.shapes, images.shape)
        called = [(self.dropouts[number], shape) for number, shape in sorted(shapes.items())]
        self.masks = [
            DropoutMasks([of for of in called if of[0].p == rate], 1 - rate, images)
            for rate in sorted({layer.p for layer, _ in called})
        ]


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


def _mask_shapes(model: nn.Module, images_shape: torch.Size) -> dict[int, tuple[int, ...]]:
    """The shape of what each dropout layer drops from, by the layer's number; [B, ...].

    Where the layer sees the windows of an image as samples, [B, windows, ...].

    Args:
        model: On the meta device, where nothing is computed.
    """
    shapes: dict[int, tuple[int, ...]] = {}
    samples = images_shape[0]

    def note(layer: IndexedDropout, x: Tensor) -> Tensor:
        rows = len(x) // samples
        shapes[numbers[layer]] = (samples, *([rows] if rows > 1 else []), *x.shape[1:])
        return x

    model.train()
    layers = [module for module in model.modules() if isinstance(module, IndexedDropout)]
    numbers = {layer: number for number, layer in enumerate(layers)}
    for layer in layers:
        layer.product = note.__get__(layer)  # type: ignore[method-assign]
    for module in model.modules():
        if isinstance(module, IndexedDropPath):
            module.eval()
    model(torch.empty(images_shape, device="meta"))
    return shapes


class DropoutMasks:
    """The masks of all dropout layers of one rate, which lie in one tensor sample by sample.

    Args:
        layers: The layers, each with the shape of its mask.
        keep: Probability that an element stays.
        images: Those of a forward pass, for their number and device.
    """

    def __init__(
        self,
        layers: Sequence[tuple[IndexedDropout, tuple[int, ...]]],
        keep: float,
        images: Tensor,
    ) -> None:
        self.keep = keep
        sizes = [math.prod(shape[1:]) for _, shape in layers]
        padded = [-(-size // ALIGNMENT) * ALIGNMENT for size in sizes]
        # a GPU reads one byte an element; a CPU multiplies fastest by what lies there as numbers
        dtype = torch.bool if images.is_cuda else torch.float32
        self.drawn = torch.empty(len(images), sum(padded), dtype=dtype, device=images.device)
        parts = self.drawn.split(padded, dim=1)
        for (layer, shape), part, size in zip(layers, parts, sizes, strict=True):
            layer.mask = part[:, :size].unflatten(1, shape[1:])

    def fill(self, first: int, group: int, seed: tuple[int, str, int, int]) -> None:
        """Draws the masks of the samples from position `first` of the global batch on."""
        generator = generator_on(self.drawn.device)

        def fill(number: int, part: Tensor) -> None:
            generator.manual_seed(seed_for(*seed, number))
            part.bernoulli_(self.keep, generator=generator)

        rows_by_group(first, self.drawn, group, fill)
        if self.drawn.dtype is not torch.bool:
            self.drawn.div_(self.keep)


class DropPathFactors:
    """The factors of all drop path layers: 0, or 1 / keep, one number a layer and sample."""

    def __init__(self, layers: Sequence[IndexedDropPath]) -> None:
        self.layers = layers
        self.keep = 1 - np.array([layer.drop_prob for layer in layers])

    def make_room(self, images: Tensor) -> None:
        """Makes room for passes of as many images, on their device."""
        self.factors = images.new_empty(len(self.layers), len(images), dtype=torch.float32)
        for layer, factors in zip(self.layers, self.factors, strict=True):
            layer.factors = factors

    def fill(self, seed: int, views: Sequence[int]) -> None:
        """Draws the factors of samples by the numbers of their views."""
        kept = uniform(seed, "drop path", views, len(self.layers)) < self.keep
        factors = torch.from_numpy((kept / self.keep).T.astype(np.float32))
        self.factors.copy_(factors, non_blocking=True)


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


class IndexedDropout(nn.Dropout):
    """Dropout by sample; `DropoutMasks` sets the mask."""

    mask: Tensor
    """[B, ...], or [B, windows, ...] of a layer that sees the windows of an image as samples: 1 or
    0; on a CPU, divided by the probability of 1."""

    def forward(self, input: Tensor) -> Tensor:
        """[B or B * windows, ...] -> the same."""
        return self.product(input) if self.training else input

    def product(self, x: Tensor) -> Tensor:
        """The input, dropped from."""
        if self.mask.ndim > x.ndim:
            return self._masked(x.unflatten(0, self.mask.shape[:2])).flatten(0, 1)
        return self._masked(x)

    def _masked(self, x: Tensor) -> Tensor:
        if self.mask.dtype is not torch.bool:
            return x * self.mask
        result: Tensor = FusedDropout.apply(x, self.mask, 1 / (1 - self.p))
        return result


class IndexedDeferredDropout(DeferredDropout, IndexedDropout):
    """Dropout at the end of a scaled attention layer."""


class IndexedExplicitDropout(ExplicitDropout, IndexedDropout):
    """Dropout on an attention matrix that a method has rescaled."""


class IndexedMixingDropout(MixingDropout, IndexedDropout):
    """Dropout on an attention matrix whose heads are mixed."""


class IndexedDropPath(DropPath):
    """Drop path by sample; `DropPathFactors` sets the factors."""

    factors: Tensor
    """[B]"""

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] -> the same."""
        if not self.training:
            return x
        return x * self.factors.to(x.dtype).view(-1, *[1] * (x.ndim - 1))


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
