"""From the bytes of an image file to pixels: JPEGs by libjpeg-turbo directly, all else by Pillow.

Both give the same pixels, to the bit: they run the same library with the same settings (accurate
DCT, smooth upsampling). simplejpeg skips Pillow's conversion from and to its own four bytes a
pixel.
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

PLAIN = {"Gray", "YCbCr"}
"""Colour spaces of JPEGs that mean the same to both; CMYK and its kin are Pillow's."""
LARGEST = 50_000_000
"""Pixels of an image beyond which Pillow decides whether it may be what it says."""
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    Image.DecompressionBombError,
)
"""What Pillow raises about a damaged file, depending on the format and on where the damage is."""


def decode(content: bytes) -> Tensor:
    """An image in RGB. Shape: [3, height, width] uint8; its values lie in memory as [height, width,
    3].

    Raises:
        OSError: It is damaged, or no image.
    """
    pixels = _fast(content)
    if pixels is None:
        try:
            pixels = _by_pillow(content)
        except DAMAGE as err:
            raise OSError(f"{type(err).__name__}: {err}") from err
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _fast(content: bytes) -> npt.NDArray[np.uint8] | None:
    """Pixels of a plain and whole JPEG; None of anything else, which Pillow may still read or has
    words for."""
    if content[:2] != b"\xff\xd8":
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content, strict=True)
        if colours not in PLAIN or height * width > LARGEST:
            return None
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(content, "RGB", strict=True)
    except ValueError:
        return None
    return pixels


def _by_pillow(content: bytes) -> npt.NDArray[np.uint8]:
    with warnings.catch_warnings():
        # about odd metadata, of which a million files have some
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(content)) as image:
            return np.array(image.convert("RGB"))
