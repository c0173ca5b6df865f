"""Pixels are Pillow's, to the bit, whatever kind of image it is and whoever decodes it."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import simplejpeg
import torch
from PIL import Image

from antioversmooth.training.data import decoding
from antioversmooth.training.data.decoding import decode

SIZES = [(1, 1), (7, 5), (16, 16), (17, 33), (255, 64), (500, 375)]


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Smooth shades with noise, in which every frequency occurs."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    noise = np.random.default_rng(width * height).normal(0, 20, (height, width, 3))
    pixels = (np.stack([x, y, 255 - x], 2) + noise).clip(0, 255).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def by_pillow(content: bytes) -> torch.Tensor:
    with Image.open(io.BytesIO(content)) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


@pytest.fixture
def no_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Holds that an image takes the fast path."""
    monkeypatch.setattr(decoding, "_decode_with_pillow", None)


@pytest.mark.usefixtures("no_pillow")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize(
    "options", [{}, {"quality": 30}, {"quality": 100}, {"progressive": True}, {"optimize": True}]
)
def test_jpegs_of_every_common_kind(
    size: tuple[int, int], subsampling: int, options: dict[str, object]
) -> None:
    content = encoded(picture(*size), subsampling=subsampling, **options)
    assert torch.equal(decode(content), by_pillow(content))


@pytest.mark.usefixtures("no_pillow")
@pytest.mark.parametrize("subsampling", ["444", "422", "420", "440", "411"])
def test_jpegs_of_another_encoder(subsampling: str) -> None:
    pixels = np.ascontiguousarray(picture(121, 77))
    content = simplejpeg.encode_jpeg(pixels, 80, "RGB", subsampling)
    assert torch.equal(decode(content), by_pillow(content))


@pytest.mark.usefixtures("no_pillow")
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 3}])
def test_grey_jpegs(options: dict[str, object]) -> None:
    content = encoded(picture(33, 21, "L"), **options)
    assert torch.equal(decode(content), by_pillow(content))


@pytest.mark.usefixtures("no_pillow")
def test_orientation_is_left_as_it_is_stored_as_by_torchvisions_folder() -> None:
    exif = Image.Exif()
    # orientation: rotated by 90 degrees
    exif[0x0112] = 6
    content = encoded(picture(40, 20), exif=exif, icc_profile=b"profile", comment=b"words")
    assert decode(content).shape == (3, 20, 40)
    assert torch.equal(decode(content), by_pillow(content))


@pytest.mark.parametrize(
    ("form", "mode"),
    [("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "L"), ("WEBP", "RGB"),
    ("BMP", "RGB"),
     ("TIFF", "RGB"), ("PPM", "RGB"), ("MPO", "RGB")],
)  # fmt: skip
def test_other_kinds_are_pillows(form: str, mode: str) -> None:
    content = encoded(picture(33, 21, mode), form)
    assert torch.equal(decode(content), by_pillow(content))


def test_jpegs_that_are_rgb_inside_are_pillows() -> None:
    content = encoded(picture(33, 21), keep_rgb=True)
    assert torch.equal(decode(content), by_pillow(content))


def test_pixels_lie_as_they_are_decoded() -> None:
    """So that the crop can take them as they are."""
    assert decode(encoded(picture(33, 21))).permute(1, 2, 0).is_contiguous()


def _cut(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


def _without_head(content: bytes) -> bytes:
    return content[:2] + content[200:]


def _too_large(content: bytes) -> bytes:
    """Says that it has 60,000 x 60,000 pixels."""
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + struct.pack(">HH", 60_000, 60_000) + content[at + 4 :]


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    "damage", [_cut, _without_head, lambda _: b"", lambda _: b"no image", lambda c: c[:3]]
)
def test_damaged_files_are_refused(form: str, damage: object) -> None:
    with pytest.raises(OSError, match=r"Error: "):
        decode(damage(encoded(picture(64, 48), form)))  # type: ignore[operator]


def test_a_jpeg_that_claims_to_be_huge_is_refused_before_memory_is_taken() -> None:
    with pytest.raises(OSError, match="DecompressionBombError"):
        decode(_too_large(encoded(picture(64, 48), subsampling=0)))


def test_a_jpeg_with_garbage_behind_it_is_as_pillow_reads_it() -> None:
    content = encoded(picture(64, 48)) + b"\0" * 100
    assert torch.equal(decode(content), by_pillow(content))
