"""Pixels are Pillow's, to the bit, whatever kind of image it is and whoever decodes it."""

from __future__ import annotations

import contextlib
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


RAMP = np.linspace(0, 65535, 4096).astype(np.uint16).reshape(64, 64)
"""Grey levels of 16 bits, from black to white."""


def tiff(bits: int, strip: bytes, width: int, *, photometric: int = 1, form: int = 1) -> bytes:
    """A little-endian TIFF file of one row of grey levels, written by hand."""
    tags = [
        (256, 4, width),
        (257, 4, 1),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, 1),
        (279, 4, len(strip)),
        (339, 3, form),
    ]
    strip += b"\0" * (len(strip) % 2)
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    head = b"II*\0" + struct.pack("<I", 8 + len(strip))
    return head + strip + struct.pack("<H", len(tags)) + entries + b"\0" * 4


@pytest.mark.parametrize(
    "content",
    [
        encoded(Image.fromarray(RAMP), "PNG"),
        encoded(Image.fromarray(RAMP), "PPM"),
        encoded(Image.fromarray(RAMP), "TIFF"),
        encoded(Image.fromarray(RAMP), "TIFF", compression="tiff_lzw"),
        encoded(Image.frombytes("I;16B", (64, 64), RAMP.astype(">u2").tobytes()), "TIFF"),
        encoded(Image.fromarray(65535 - RAMP), "TIFF", tiffinfo={262: 0}),
    ],
    ids=["png", "pgm", "tiff", "lzw", "big-endian", "white-is-zero"],
)
def test_16_bits_of_grey_are_scaled_to_8(content: bytes) -> None:
    expected = np.round(RAMP / 257.0)
    pixels = decode(content).numpy()
    assert pixels.shape == (3, 64, 64)
    assert np.array_equal(pixels, np.stack([expected] * 3))


def test_other_depths_of_grey_are_scaled_by_their_own_white() -> None:
    levels = np.array([0, 1000, 2000, 4095])
    packed = b"".join(
        struct.pack(">I", int(a) << 20 | int(b) << 8)[:3] for a, b in levels.reshape(2, 2)
    )
    expected = np.round(levels * 255 / 4095)
    assert np.array_equal(decode(tiff(12, packed, 4)).numpy()[0, 0], expected)
    text = b"P2 4 1 4095\n" + b" ".join(b"%d" % level for level in levels)
    assert np.array_equal(decode(text).numpy()[0, 0], expected)


@pytest.mark.parametrize(
    "content",
    [
        encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"),
        encoded(Image.fromarray(np.full((4, 4), 70_000, np.int32)), "TIFF"),
        tiff(16, np.array([-5, 0, 5], "<i2").tobytes(), 3, form=2),
        b"Pf\n1 1\n-1.0\n" + struct.pack("<f", 0.5),
    ],
    ids=["floats", "32-bit", "signed", "pfm"],
)
def test_grey_levels_of_unknown_range_are_refused(content: bytes) -> None:
    with pytest.raises(OSError, match="which values are black and white"):
        decode(content)


@pytest.mark.parametrize("form", ["GIF", "AVIF", "WEBP", "PNG"])
def test_formats_of_the_web_are_decoded_under_any_name(form: str) -> None:
    content = encoded(picture(33, 21), form)
    assert torch.equal(decode(content), by_pillow(content))


@pytest.mark.parametrize("form", ["EPS", "ICO", "DDS", "PCX", "TGA", "JPEG2000"])
def test_other_formats_reach_no_decoder(form: str) -> None:
    with pytest.raises(OSError, match=r"not the beginning of a JPEG, PNG, .* file"):
        decode(encoded(picture(32, 32), form))


@pytest.mark.parametrize("form", ["AVIF", "WEBP", "GIF", "BMP", "PPM", "PNG", "JPEG"])
def test_an_image_with_changed_bytes_is_decoded_or_an_os_error(form: str) -> None:
    """Whatever type of exception the decoder of a format raises."""
    content = encoded(picture(24, 18), form)
    generator = np.random.default_rng(0)
    for _ in range(12):
        damaged = bytearray(content)
        for place in generator.integers(0, min(len(content), 400), 3):
            damaged[place] = generator.integers(0, 256)
        with contextlib.suppress(OSError):
            assert decode(bytes(damaged)).dtype == torch.uint8


def test_a_damaged_avif_is_a_damaged_image() -> None:
    """Of these Pillow raises RuntimeError."""
    content, types = encoded(picture(16, 16), "AVIF"), set()
    for place in range(0, len(content), 3):
        damaged = content[:place] + b"\xff" + content[place + 1 :]
        try:
            by_pillow(damaged)
        except Exception as err:
            types.add(type(err))
            with pytest.raises(OSError, match="Error: "):
                decode(damaged)
    assert not all(issubclass(kind, OSError) for kind in types)


def test_memory_that_runs_out_is_no_damaged_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(image: Image.Image, mode: str) -> None:
        raise MemoryError

    content = encoded(picture(8, 8), "PNG")
    monkeypatch.setattr(Image.Image, "convert", fail)
    with pytest.raises(MemoryError):
        decode(content)
