"""Placing a NormMethod: in front of the layer norms over tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from timm.layers.norm import LayerNorm
from torch import nn

from antioversmooth.errors import ModelError
from antioversmooth.methods.norms import NormMethod
from antioversmooth.models import supported
from antioversmooth.models.contrast import SpreadingNorm


def require_supported(model: nn.Module, method: NormMethod) -> None:
    """Raises ModelError, with the norm's name, where one is no layer norm of timm."""
    supported.require_family(model, method)
    for name, norm in _norms(model):
        if norm is None:
            raise supported.UnknownLayers(f"{method.title} does not go into {name}: there is none")
        if type(norm) is not LayerNorm:
            raise supported.UnknownLayers(
                f"{method.title} does not go into {name}, a {supported.path_of(type(norm))}: it"
                f" replaces {supported.path_of(LayerNorm)}"
            )


def place(model: nn.Module, method: NormMethod, **_: bool) -> None:
    """Lets each layer norm of a supported model spread tokens first; the class token is one."""
    norms: list[Any] = [norm for _, norm in _norms(model)]
    for norm in norms:
        norm.__class__ = SpreadingNorm
        norm.method = method


def require_removable(model: nn.Module) -> None:
    """Raises ModelError where the method has a strength."""
    for name, norm in model.named_modules():
        if isinstance(norm, SpreadingNorm) and norm.method.scale > 0:
            raise ModelError(
                f"{norm.method.title} in {name} cannot be folded into the weights of"
                f" {type(model).__name__}: its term is different for each image"
            )


def restore(model: nn.Module) -> None:
    """Restores timm's layer norms."""
    for norm in model.modules():
        if isinstance(norm, SpreadingNorm):
            del norm.method
            norm.__class__ = LayerNorm  # type: ignore[assignment]


def _norms(model: nn.Module) -> Iterator[tuple[str, nn.Module | None]]:
    """Those of blocks, None where a block lacks one; and the final one, where it precedes
    pooling."""
    for name, block, _ in supported.self_attentions(model):
        for norm in ("norm1", "norm2"):
            yield f"{name.removesuffix('attn')}{norm}", getattr(block, norm, None)
    final = getattr(model, "norm", None)
    if final is not None and not isinstance(final, nn.Identity):
        yield "norm", final
