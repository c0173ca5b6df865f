"""RandAugment's operations on arrays of bytes: timm's draws and Pillow's pixels, to the bit.

Arrays go from the crop to the batch as they are. Operations that arrays do in less time than Pillow
are done on them; the others are Pillow's, which takes a copy and gives another.

Shapes: H x W pixels of C channels, uint8.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from timm.data import auto_augment
from timm.data.auto_augment import AugmentOp

from antioversmooth.training.data import shifts
from antioversmooth.training.data.shifts import Pixels

Operation = Callable[..., Pixels]
"""From an array to another; it never writes to the first."""
LEVELS = 256
SMALL = 3 * 64 * 64
"""Bytes of an image below which Pillow moves it in less time."""


def with_pillow(function: Callable[..., Image.Image]) -> Operation:
    """An operation of Pillow, on arrays in RGB."""
    return partial(_with_pillow, function)


def _with_pillow(
    function: Callable[..., Image.Image], pixels: Pixels, *values: object, **options: object
) -> Pixels:
    return np.array(function(Image.fromarray(pixels), *values, **options))


def operation_of(timms: AugmentOp) -> Operation:
    """Operation on arrays that gives what one of timm gives, called with its drawn values.

    Another resampling than bicubic, or one that is drawn, is left to Pillow.
    """
    function: Any = timms.aug_fn
    move = _MOVES.get(function)
    if move is not None and timms.kwargs["resample"] is Image.Resampling.BICUBIC:
        return partial(_move, move, with_pillow(function))
    return _POINTS.get(function) or with_pillow(function)


class Drawn(NamedTuple):
    """An operation with the values that were drawn for it."""

    operation: Operation
    values: tuple[Any, ...]
    options: Mapping[str, Any]

    def __call__(self, pixels: Pixels) -> Pixels:
        """The pixels after the operation."""
        return self.operation(pixels, *self.values, **self.options)


Plan = tuple[Drawn, ...]
"""Operations that are to be done one after the other."""


def drawing(timms: AugmentOp) -> Callable[..., Plan]:
    """A function for timm to call in place of one that changes an image: it adds to a plan.

    timm passes plans from operation to operation as it passes images, and so draws all values of a
    view before its image is there.
    """
    return partial(_add, operation_of(timms), timms.aug_fn in _RESAMPLING)


def _add(
    operation: Operation, resamples: bool, plan: Plan, *values: object, **options: Any
) -> Plan:
    if resamples and isinstance(options["resample"], tuple):
        # as timm's functions draw it
        options["resample"] = random.choice(options["resample"])
    return (*plan, Drawn(operation, values, options))


_RESAMPLING: set[object] = {
    auto_augment.rotate,
    auto_augment.shear_x,
    auto_augment.shear_y,
    auto_augment.translate_x_rel,
    auto_augment.translate_y_rel,
    auto_augment.translate_x_abs,
    auto_augment.translate_y_abs,
}


def _move(
    move: Operation, pillows: Operation, pixels: Pixels, value: float, **options: object
) -> Pixels:
    if pixels.size < SMALL:
        return pillows(pixels, value, **options)
    return move(pixels, value, fillcolor=options["fillcolor"])


def invert(pixels: Pixels, **_: object) -> Pixels:
    """The negative."""
    return ~pixels


def solarize(pixels: Pixels, threshold: int, **_: object) -> Pixels:
    """The negative of bytes from a threshold on."""
    return pixels ^ -(pixels >= threshold).view(np.uint8)


def solarize_add(pixels: Pixels, add: int, **_: object) -> Pixels:
    """Adds at most 128 to bytes below 128, timm's threshold."""
    return pixels + (pixels < 128).view(np.uint8) * np.uint8(add)


def posterize(pixels: Pixels, bits: int, **_: object) -> Pixels:
    """The upper bits of each byte; no bits give a black image.

    timm draws 0 bits at full magnitude, in about two of a thousand images of DeiT's recipe. Pillow
    gave black until 12, and raises from 13 on.
    """
    return pixels & np.uint8(256 - 2 ** (8 - bits))


def sharpness(pixels: Pixels, factor: float, **_: object) -> Pixels:
    """Goes from a smoothed image, at factor 0, past the image itself, at 1.

    Pillow smooths with weights 1 around 5, and leaves the edges out.
    """
    height, width, channels = pixels.shape
    levels = pixels.reshape(height, width * channels).astype(np.int16)
    rows = levels[:-2] + levels[1:-1] + levels[2:]
    sums = rows[:, : -2 * channels] + rows[:, channels:-channels] + rows[:, 2 * channels :]
    inner = levels[1:-1, channels:-channels]
    # divided by their sum 13 and rounded; no thirteenth is halfway between two whole numbers
    smooth = (2 * (sums + 4 * inner) + 13).view(np.uint16) // np.uint16(26)
    blended = (inner - smooth.view(np.int16)).astype(np.float32) * np.float32(factor)
    blended += smooth
    result = pixels.copy()
    result[1:-1, 1:-1] = (
        np.clip(blended, 0, 255, out=blended)
        .astype(np.uint8)
        .reshape(max(0, height - 2), max(0, width - 2), channels)
    )
    return result


def brightness(pixels: Pixels, factor: float, **_: object) -> Pixels:
    """Goes from black, at factor 0, past the image itself, at 1."""
    return _blended(pixels, 0, factor)


def contrast(pixels: Pixels, factor: float, **_: object) -> Pixels:
    """Goes from the mean of its grey levels, at factor 0, past the image itself, at 1."""
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    return _blended(pixels, int(grey.mean() + 0.5), factor)


def _blended(pixels: Pixels, level: int, factor: float) -> Pixels:
    """Goes from a grey level, at factor 0, past the pixels, at 1; in float32, as Pillow does."""
    blended = pixels.astype(np.float32)
    if level:
        blended -= np.float32(level)
    blended *= np.float32(factor)
    if level:
        blended += np.float32(level)
    return np.clip(blended, 0, 255, out=blended).astype(np.uint8)


def autocontrast(pixels: Pixels, **_: object) -> Pixels:
    """Stretches each channel to all levels; many photographs have these already."""
    channels = pixels.shape[-1]
    rows = pixels.reshape(len(pixels), -1)
    darkest = rows.min(axis=0).reshape(-1, channels).min(axis=0).astype(np.float64)
    brightest = rows.max(axis=0).reshape(-1, channels).max(axis=0).astype(np.float64)
    if not darkest.any() and (brightest == 255).all():
        return pixels
    scale = 255 / np.maximum(brightest - darkest, 1)
    offset = -darkest * scale
    # a channel of one level stays as it is
    scale, offset = np.where(brightest > darkest, (scale, offset), ([1.0], [0.0]))
    tables = np.arange(LEVELS) * scale[:, None] + offset[:, None]
    return _looked_up(pixels, np.clip(tables, 0, 255).astype(np.uint8))


def _looked_up(pixels: Pixels, tables: Pixels) -> Pixels:
    """The levels of each channel replaced by those of its table; tables: [C, 256]."""
    starts = np.arange(len(tables), dtype=np.uint16) * np.uint16(LEVELS)
    rows = pixels.reshape(len(pixels), -1)
    places = rows + np.tile(starts, pixels.shape[1])
    found: Pixels = np.take(tables.ravel(), places, mode="clip").reshape(pixels.shape)
    return found


_MOVES: dict[object, Operation] = {
    auto_augment.shear_x: shifts.shear_x,
    auto_augment.shear_y: shifts.shear_y,
    auto_augment.translate_x_rel: shifts.translate_x,
    auto_augment.translate_y_rel: shifts.translate_y,
}
_POINTS: dict[object, Operation] = {
    auto_augment.invert: invert,
    auto_augment.solarize: solarize,
    auto_augment.solarize_add: solarize_add,
    auto_augment.posterize: posterize,
    auto_augment.sharpness: sharpness,
    auto_augment.brightness: brightness,
    auto_augment.contrast: contrast,
    auto_augment.auto_contrast: autocontrast,
}
