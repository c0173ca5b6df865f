"""Decoding of image files: JPEGs by libjpeg-turbo directly, everything else by Pillow.

Both give the same pixels, to the bit: they run the same library with the same settings (accurate
DCT, smooth upsampling). simplejpeg skips Pillow's conversion to and from four bytes a pixel.
Images of 16-bit grey are scaled to 8 bits.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import simplejpeg
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from antioversmooth.datasets.decoded import DecodedImages
from antioversmooth.datasets.images import ArrayImages, Images

SIMPLE_COLOURS = {"Gray", "YCbCr"}
"""Colour spaces of JPEGs that both decoders treat alike; CMYK and its kin are left to Pillow."""
MAX_PIXELS = 50_000_000
"""Size of an image above which Pillow decides whether it may be a decompression bomb."""
TIFF_BITS = 258
"""TIFF tag BitsPerSample, a number for each channel."""
TIFF_PHOTOMETRIC = 262
WHITE_IS_ZERO = 0
"""A value of the TIFF tag PhotometricInterpretation, which Pillow ignores above 8 bits."""
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "AVIF")
"""Pillow's formats that are decoded, whatever the ending of the file: those of images.EXTENSIONS,
and GIF and AVIF, which the web serves under such names. Its other decoders (EPS runs Ghostscript)
never see a file."""


def open_image(images: Images, index: int) -> Tensor:
    """An image, decoded. Shape: [1 or 3 channels, height, width], uint8.

    Raises:
        OSError: The file cannot be read or is no image.
    """
    if isinstance(images, ArrayImages):
        return torch.from_numpy(images.pixels[index])
    if isinstance(images, DecodedImages):
        return torch.from_numpy(images.pixels(index)).permute(2, 0, 1)
    return decode(images.read(index))


class Picture(NamedTuple):
    """An image, which its decoder may have divided."""

    pixels: Tensor
    """[1 or 3 channels, height, width], uint8."""
    size: tuple[int, int] | None = None
    """Height and width before it was divided; None: it was not."""

    @property
    def whole(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.size or (self.pixels.shape[-2], self.pixels.shape[-1])


Divisor = Callable[[int, int], int]
"""By which a decoder divides height and width: 1, 2, 4 or 8."""


def open_fast(images: Images, index: int, divisor: Divisor) -> Picture:
    """An image of `policy: fast`: of JPEGs, the colours without smoothing, and divided.

    Raises:
        OSError: The file cannot be read or is no image.
    """
    if isinstance(images, ArrayImages | DecodedImages):
        return Picture(open_image(images, index))
    return decode_fast(images.read(index), divisor)


def decode_fast(content: bytes, divisor: Divisor) -> Picture:
    """As `open_fast`, from the bytes of a file.

    Raises:
        OSError: It is damaged, or no image.
    """
    size = _size_of_jpeg(content)
    if size is not None:
        by = divisor(*size)
        least = [-(-length // by) for length in size] if by > 1 else [0, 0]
        try:
            pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(
                content,
                "RGB",
                fastupsample=True,
                min_height=least[0],
                min_width=least[1],
                strict=True,
            )
            return Picture(torch.from_numpy(pixels).permute(2, 0, 1), size)
        except ValueError:
            # Pillow may still read it
            pass
    return Picture(decode(content))


def decode(content: bytes) -> Tensor:
    """An image in RGB, [3, height, width] uint8, laid out in memory as [height, width, 3].

    Raises:
        OSError: It is damaged, or no image.
    """
    pixels = _decode_jpeg(content)
    if pixels is None:
        pixels = _decode_with_pillow(content)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def kind_of(content: bytes) -> str:
    """Format and mode of an image that can be decoded, as `JPEG RGB`, from its header."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return f"{image.format} {image.mode}"


def is_turned(images: Images, index: int) -> bool:
    """Whether an image has an EXIF orientation that decoding does not apply."""
    if isinstance(images, ArrayImages | DecodedImages):
        return False
    return _orientation(images.read(index)) in range(2, 9)


def _orientation(content: bytes) -> object:
    """The EXIF orientation of a file; None where it has none, or Pillow applies it itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                found = image.getexif().get(ExifTags.Base.Orientation)
                return None if image.format == "TIFF" else found
        except (SyntaxError, ValueError, OSError, struct.error):
            # broken EXIF data beside intact pixels
            return None


def _decode_jpeg(content: bytes) -> npt.NDArray[np.uint8] | None:
    """Pixels of an intact JPEG in simple colours; None for others, which Pillow may still read."""
    if _size_of_jpeg(content) is None:
        return None
    try:
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(content, "RGB", strict=True)
    except ValueError:
        return None
    return pixels


def _size_of_jpeg(content: bytes) -> tuple[int, int] | None:
    """Height and width of a JPEG in simple colours; None for other files."""
    if content[:2] != b"\xff\xd8":
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content, strict=True)
    except ValueError:
        return None
    if colours not in SIMPLE_COLOURS or height * width > MAX_PIXELS:
        return None
    return height, width


def _decode_with_pillow(content: bytes) -> npt.NDArray[np.uint8]:
    """Pixels of an image of any other kind. Shape: [height, width, 3].

    Raises:
        OSError: It is damaged, of no format of `FORMATS`, or has no range of grey levels.
    """
    try:
        with warnings.catch_warnings():
            # about odd metadata, which some of a million files have
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                brightest = _brightest(image)
                if brightest is None:
                    return np.array(image.convert("RGB"))
                levels = np.array(image).astype(np.int64)
                if getattr(image, "tag_v2", {}).get(TIFF_PHOTOMETRIC) == WHITE_IS_ZERO:
                    levels = brightest - levels
    except MemoryError:
        raise
    except UnidentifiedImageError as err:
        # Pillow's message names an object in memory
        kinds = ", ".join(FORMATS)
        raise OSError(f"UnidentifiedImageError: not the beginning of a {kinds} file") from err
    except Exception as err:
        # The type depends on format and damage: OSError, SyntaxError, struct.error, RuntimeError,
        # NotImplementedError, ... No list of them is complete.
        raise OSError(f"{type(err).__name__}: {err}") from err
    grey = (levels * 255 + brightest // 2) // brightest
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def _brightest(image: Image.Image) -> int | None:
    """Value of white in an image of more than 8 bits of grey; None for images of 8 bits.

    Pillow's own conversion of such images to RGB clips them at 255.

    Raises:
        ValueError: The file does not say which values are black and white.
    """
    if image.mode.startswith("I;16"):
        bits = getattr(image, "tag_v2", {}).get(TIFF_BITS, (16,))[0]
        return int(2**bits - 1)
    if image.mode == "I" and image.format in ("PPM", "PNG"):
        # Pillow scales all depths of PPM to 16 bits; older versions read 16-bit PNGs in this mode
        return 65535
    if image.mode in ("I", "F"):
        raise ValueError(
            f"mode {image.mode} (32-bit or signed numbers) does not say which values are black and"
            " white; store the image with 8 or 16 bits a channel"
        )
    return None
