"""`policy: fast`: views near the exact policy's, from images that their decoder divides."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from antioversmooth.config import DataConfig, DataSource, RecipeConfig
from antioversmooth.datasets.images import ArrayImages, FileImages, encode_names
from antioversmooth.training.data.augmentation import train_transform
from antioversmooth.training.data.decoding import decode, decode_fast
from antioversmooth.training.data.loading import ViewDataset
from antioversmooth.training.data.sampling import View
from antioversmooth.training.randomness import seed_everything

SIDE = 32
SIZE = (500, 401)
DATA = DataConfig("colour", DataSource.image_folder, None, 10, 100, 10)
EXACT = RecipeConfig(epochs=10, global_batch=32, base_lr=1e-3)
FAST = replace(EXACT, policy="fast")


def encoded(form: str = "JPEG") -> bytes:
    """Smooth colours, which no rule of decoding changes much."""
    x, y = np.meshgrid(np.linspace(0, 1.5, SIZE[1]), np.linspace(0, 2, SIZE[0]))
    waves = np.stack([np.sin(2 * x + y), np.cos(3 * y), np.sin(x - y)], 2)
    file = io.BytesIO()
    Image.fromarray((127 + 120 * waves).astype(np.uint8)).save(file, form, quality=95)
    return file.getvalue()


@pytest.mark.parametrize("by", [1, 2, 4, 8])
def test_a_jpeg_is_divided_and_keeps_its_size(by: int) -> None:
    asked: list[tuple[int, int]] = []
    content = encoded()
    picture = decode_fast(content, lambda *size: (asked.append(size), by)[1])
    assert asked == [SIZE]
    assert picture.size == SIZE
    assert picture.pixels.shape == (3, -(-SIZE[0] // by), -(-SIZE[1] // by))
    nearest = decode(content)[:, by // 2 :: by, by // 2 :: by].int()
    found = picture.pixels[:, : nearest.shape[1], : nearest.shape[2]].int()
    assert (found - nearest).abs().float().mean() < 3


def test_other_images_are_decoded_whole() -> None:
    content = encoded("PNG")
    picture = decode_fast(content, lambda *_: 2)
    assert picture.size is None
    assert torch.equal(picture.pixels, decode(content))


def test_damage_is_an_error_as_with_the_exact_policy() -> None:
    with pytest.raises(OSError, match="truncated"):
        decode_fast(encoded()[:3000], lambda *_: 2)


def test_the_crop_of_a_divided_image_is_twice_the_view_and_the_largest_such_division() -> None:
    transform = train_transform(FAST, DATA, SIDE)
    found = set()
    for seed in range(60):
        by = transform.divisor(seed, *SIZE)
        seed_everything(seed)
        least = min(transform.crop.box(*SIZE)[2:])
        assert by == 1 or least >= by * 2 * SIDE
        assert by == 8 or least < 2 * by * 2 * SIDE
        found.add(by)
    assert found == {1, 2, 4}
    assert transform.divisor(0, 4 * SIDE - 1, 1000) == 1


def test_views_are_near_those_of_the_exact_policy_and_draw_the_same() -> None:
    content = encoded()
    fast, exact = (
        train_transform(replace(recipe, rand_augment=None, color_jitter=0.0), DATA, SIDE)
        for recipe in (FAST, EXACT)
    )
    apart = []
    for seed in range(40):
        picture = decode_fast(content, lambda *size, seed=seed: fast.divisor(seed, *size))
        seed_everything(seed)
        draws, drawn = fast.draw(picture.whole), float(torch.rand(1))
        view = fast.apply(picture.pixels, draws)
        seed_everything(seed)
        draws, expected_drawn = exact.draw(SIZE), float(torch.rand(1))
        expected = exact.apply(decode(content), draws)
        assert drawn == expected_drawn
        apart.append(float((view.int() - expected.int()).abs().float().mean()))
    assert 0.1 < np.median(apart) < 1


def test_views_of_arrays_that_nothing_moves_are_the_exact_ones() -> None:
    pixels = torch.randint(0, 256, (4, 3, 90, 70), dtype=torch.uint8).numpy()
    images = ArrayImages(pixels, np.arange(4), "arrays")
    fast, exact = (
        ViewDataset(images, train_transform(replace(recipe, rand_augment=None), DATA, SIDE), seed=0)
        for recipe in (FAST, EXACT)
    )
    for number in range(8):
        view = View(number, number % 4)
        assert torch.equal(fast[view][0], exact[view][0])


def test_a_view_does_not_depend_on_the_views_that_are_made_beside_it(tmp_path: Path) -> None:
    """Views of an image, of which some can be divided and some cannot, in any order."""
    (tmp_path / "0.jpg").write_bytes(encoded())
    (tmp_path / "1.png").write_bytes(encoded("PNG"))
    images = FileImages(tmp_path, encode_names(["0.jpg", "1.png"]), np.arange(2))
    transform = train_transform(FAST, DATA, SIDE)
    wanted = [View(number, number % 2) for number in range(24)]
    together = ViewDataset(images, transform, seed=0).__getitems__(wanted)
    for view, (pixels, label, _) in zip(wanted, together, strict=True):
        alone, alone_label, _ = ViewDataset(images, transform, seed=0)[view]
        assert torch.equal(pixels, alone)
        assert label == alone_label
