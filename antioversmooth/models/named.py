"""Methods on layers that a call names, of any model: forward hooks, and where channels are.

A layer that gives [B, N, C], [B, C, N], [B, H, W, C] or [B, C, H, W] is enough; timm's names of
these are NLC, NCL, NHWC and NCHW. Hooks copy and pickle with their layer, and torch.compile and
torch.export trace them.
"""

from __future__ import annotations

from typing import Any

from timm.layers.format import Format, get_channel_dim, get_spatial_dim
from torch import Tensor, nn

from antioversmooth.methods import Family, FeatureMethod, Method
from antioversmooth.methods.branches import BranchMethod
from antioversmooth.methods.norms import NormMethod
from antioversmooth.models.contrast import spread
from antioversmooth.models.scaling import scale_features, token_mean


class Named:
    """A method on a layer, whose parameters are the layer's."""

    def __init__(self, method: Method, layout: Format) -> None:
        self.method, self.layout = method, layout

    def parameters(self, layer: nn.Module) -> list[Tensor]:
        """The method's."""
        return [getattr(layer, parameter.name) for parameter in self.method.parameters]

    def along_channels(self, values: Tensor, x: Tensor) -> Tensor:
        """Numbers of channels, [C] or [1], broadcastable to x."""
        sizes = [1] * x.ndim
        sizes[get_channel_dim(self.layout)] = -1
        return values.view(sizes)

    def initial(self, output: Tensor) -> dict[str, Tensor]:
        """First values of the parameters, by name.

        Args:
            output: Of the layer, in any batch.
        """
        raise NotImplementedError

    def is_off(self, layer: nn.Module) -> bool:
        """Whether the layer computes the same without the method."""
        raise NotImplementedError

    def register(self, layer: nn.Module) -> None:
        """Hooks it into the layer."""
        layer.register_forward_hook(self)  # type: ignore[arg-type]

    def release(self, layer: nn.Module) -> None:
        """Drops its parameters and its hook."""
        for parameter in self.method.parameters:
            delattr(layer, parameter.name)
        for hooks in (layer._forward_hooks, layer._forward_pre_hooks):
            for key, hook in list(hooks.items()):
                if isinstance(hook, Named) and hook is self:
                    del hooks[key]


class NamedFeatures(Named):
    """X + k (s DC[X] + t HC[X]) of the output X of a layer."""

    method: FeatureMethod

    def initial(self, output: Tensor) -> dict[str, Tensor]:
        channels = output.shape[get_channel_dim(self.layout)]
        return {p.name: output.new_zeros(channels) for p in self.method.parameters}

    def is_off(self, layer: nn.Module) -> bool:
        return not any(parameter.any() for parameter in self.parameters(layer))

    def __call__(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        s, t = (self.along_channels(scale, output) for scale in self.parameters(layer))
        times = self.method.times(Family.vit)
        mean = token_mean(output, get_spatial_dim(self.layout), times)
        return scale_features(output, s, t, mean, times)


class NamedBranch(Named):
    """g X of the output X of a layer, which ends a branch."""

    method: BranchMethod

    def initial(self, output: Tensor) -> dict[str, Tensor]:
        (parameter,) = self.method.parameters
        size = output.shape[get_channel_dim(self.layout)] if self.method.per_channel else 1
        return {parameter.name: output.new_full((size,), self.method.start)}

    def is_off(self, layer: nn.Module) -> bool:
        return all(bool((parameter == 1).all()) for parameter in self.parameters(layer))

    def __call__(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        (factor,) = self.parameters(layer)
        return output * self.along_channels(factor, output)


class NamedNorm(Named):
    """x - s softmax(x_n x_n^T / tau) x of the input x of a layer, which is a norm."""

    method: NormMethod

    def initial(self, output: Tensor) -> dict[str, Tensor]:
        return {}

    def is_off(self, layer: nn.Module) -> bool:
        return self.method.is_off

    def register(self, layer: nn.Module) -> None:
        layer.register_forward_pre_hook(self)

    def __call__(self, layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        x, *others = inputs
        channels_last = x.movedim(get_channel_dim(self.layout), -1)
        tokens = spread(channels_last.flatten(1, -2), self.method)
        spread_map = tokens.view(channels_last.shape).movedim(-1, get_channel_dim(self.layout))
        return (spread_map, *others)


NAMED: dict[type[Method], type[Named]] = {
    FeatureMethod: NamedFeatures,
    BranchMethod: NamedBranch,
    NormMethod: NamedNorm,
}
"""Kinds of methods that need the output or the input of a layer and nothing else."""


def named_of(layer: nn.Module) -> list[Named]:
    """The methods that are hooked into a layer."""
    hooks: list[Any] = [*layer._forward_hooks.values(), *layer._forward_pre_hooks.values()]
    return [hook for hook in hooks if isinstance(hook, Named)]
