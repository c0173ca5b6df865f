"""Decoding of image files: JPEGs by libjpeg-turbo directly, everything else by Pillow.

Both give the same pixels, to the bit: they run the same library with the same settings (accurate
DCT, smooth upsampling). simplejpeg skips Pillow's conversion to and from four bytes a pixel.
"""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
import numpy.typing as npt
import simplejpeg
import torch
from PIL import Image
from torch import Tensor

from antioversmooth.datasets.images import ArrayImages, Images

SIMPLE_COLOURS = {"Gray", "YCbCr"}
"""Colour spaces of JPEGs that both decoders treat alike; CMYK and its kin are left to Pillow."""
MAX_PIXELS = 50_000_000
"""Size of an image above which Pillow decides whether it may be a decompression bomb."""
DECODE_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error,
    Image.DecompressionBombError,
)  # fmt: skip
"""Exceptions that Pillow raises for a damaged file, depending on its format and damage."""


def open_image(images: Images, index: int) -> Tensor:
    """An image, decoded. Shape: [1 or 3 channels, height, width], uint8.

    Raises:
        OSError: The file cannot be read or is no image.
    """
    if isinstance(images, ArrayImages):
        return torch.from_numpy(images.pixels[index])
    return decode(images.read(index))


def decode(content: bytes) -> Tensor:
    """An image in RGB, [3, height, width] uint8, laid out in memory as [height, width, 3].

    Raises:
        OSError: It is damaged, or no image.
    """
    pixels = _decode_jpeg(content)
    if pixels is None:
        try:
            pixels = _decode_with_pillow(content)
        except DECODE_ERRORS as err:
            raise OSError(f"{type(err).__name__}: {err}") from err
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _decode_jpeg(content: bytes) -> npt.NDArray[np.uint8] | None:
    """Pixels of an intact JPEG in simple colours; None for others, which Pillow may still read."""
    if content[:2] != b"\xff\xd8":
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content, strict=True)
        if colours not in SIMPLE_COLOURS or height * width > MAX_PIXELS:
            return None
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(content, "RGB", strict=True)
    except ValueError:
        return None
    return pixels


def _decode_with_pillow(content: bytes) -> npt.NDArray[np.uint8]:
    with warnings.catch_warnings():
        # about odd metadata, which some of a million files have
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(content)) as image:
            return np.array(image.convert("RGB"))
