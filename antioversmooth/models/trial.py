"""One forward pass of a model, to see what its layers give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from timm.layers.format import Format, get_channel_dim, get_spatial_dim
from torch import Tensor, nn

from antioversmooth.errors import ModelError

_BATCH = 2
_FORMATS = {3: (Format.NLC, Format.NCL), 4: (Format.NHWC, Format.NCHW)}
"""Layouts of outputs by their number of dimensions."""


def outputs_of(
    model: nn.Module, layers: Mapping[str, nn.Module], images: Tensor | None = None
) -> dict[str, Tensor]:
    """The output of each layer in one forward pass, which changes nothing in the model.

    Args:
        layers: By name.
        images: The batch; None: zeros of the size that the model is made for.

    Raises:
        ModelError: The pass fails; or a layer is not called, or gives something else than one
            tensor with a row for each image.
    """
    batch = _zeros_for(model) if images is None else images
    found: dict[str, list[Any]] = {name: [] for name in layers}
    with _observed(layers, found), _evaluated(model), torch.no_grad():
        try:
            model(batch)
        except (AssertionError, RuntimeError, TypeError, ValueError) as err:
            raise ModelError(
                f"a trial of this {type(model).__name__} with images {list(batch.shape)} failed:"
                f" {err}; give a batch that it takes: images=..."
            ) from err
    return {name: _only(name, outputs, len(batch)) for name, outputs in found.items()}


def layout_of(name: str, output: Tensor, model: nn.Module, declared: str | None) -> Format:
    """Where the channels of an output are: as declared, or where one layout alone fits.

    Channels are the dimension that some norm of the model has as its size; the two dimensions of a
    map have one size.

    Raises:
        ModelError: The output is not as declared, or not clearly of one layout.
    """
    shape = list(output.shape)
    formats = _FORMATS.get(len(shape), ())
    if declared is not None:
        if declared not in formats:
            raise ModelError(f"{name} gives {shape}, which is not {declared}")
        return Format(declared)
    widths = _widths(model)
    fitting = [
        one
        for one in formats
        if shape[get_channel_dim(one)] in widths
        and len({shape[dim] for dim in get_spatial_dim(one)}) == 1
    ]
    if len(fitting) == 1:
        return fitting[0]
    choices = ", ".join(one.value for one in formats)
    wanted = f"declare its layout: layout=..., one of {choices}" if choices else "name another"
    raise ModelError(f"{name} gives {shape}, and its channels are not clear; {wanted}")


def _widths(model: nn.Module) -> set[int]:
    """Numbers of channels: of the vectors in all norms."""
    norms = [module for module in model.modules() if "norm" in type(module).__name__.lower()]
    return {len(p) for norm in norms for p in norm.parameters(recurse=False) if p.ndim == 1}


def _zeros_for(model: Any) -> Tensor:
    """A batch of the size that timm records for the model."""
    recorded = (getattr(model, "pretrained_cfg", None) or {}).get("input_size", ())
    size = getattr(getattr(model, "patch_embed", None), "img_size", None) or recorded[1:]
    convolution = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if convolution is None or not size:
        raise ModelError(
            f"this {type(model).__name__} does not say what images it takes; give a batch of them:"
            " images=..."
        )
    return convolution.weight.new_zeros((_BATCH, convolution.in_channels, *size))


@contextmanager
def _observed(layers: Mapping[str, nn.Module], found: dict[str, list[Any]]) -> Iterator[None]:
    handles = [
        layer.register_forward_hook(partial(_append, found[name])) for name, layer in layers.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _append(found: list[Any], layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
    found.append(output)


@contextmanager
def _evaluated(model: nn.Module) -> Iterator[None]:
    """Puts the model into eval mode, and each module back into its own."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _only(name: str, outputs: Sequence[Any], batch: int) -> Tensor:
    """The output of a layer.

    Raises:
        ModelError: There is none, it is not one tensor, or its rows are not the images.
    """
    if not outputs:
        raise ModelError(f"{name} is not called in a forward pass: name the module around it")
    kinds = {type(output).__name__ for output in outputs if not isinstance(output, Tensor)}
    if kinds:
        raise ModelError(f"{name} gives a {kinds.pop()}, not one tensor")
    shapes = {tuple(output.shape) for output in outputs}
    if len(shapes) > 1:
        listed = " and ".join(str(list(shape)) for shape in sorted(shapes))
        raise ModelError(f"{name} gives {listed} in one pass: name the modules around its calls")
    output: Tensor = outputs[-1]
    if output.shape[:1] != (batch,):
        raise ModelError(
            f"{name} gives {list(output.shape)} for {batch} images, so its rows are parts of"
            " images, such as windows: name the module around it"
        )
    return output
