from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import auto_augment
from timm.data.auto_augment import AugmentOp, rand_augment_transform
from timm.data.transforms import RandomResizedCropAndInterpolation
from torchvision.transforms import RandomHorizontalFlip
from torchvision.transforms.functional import to_pil_image
from torchvision.transforms.v2.functional import resize

from antioversmooth.config import DataConfig, DataSource, RecipeConfig
from antioversmooth.training.data import operations
from antioversmooth.training.data.augmentation import train_transform
from antioversmooth.training.data.decoding import open_image
from antioversmooth.training.data.operations import operation_of, posterize
from antioversmooth.training.data.shifts import Pixels
from antioversmooth.training.randomness import seed_everything
from benchmarks.pipeline import write_photographs

FILL = (124, 116, 104)
BICUBIC = Image.Resampling.BICUBIC
POLICY = "rand-m9-mstd0.5-inc1"
MOVES = ("ShearX", "ShearY", "TranslateXRel", "TranslateYRel")


def operation(name: str, resample: object = BICUBIC) -> AugmentOp:
    return AugmentOp(name, hparams={"img_mean": FILL, "interpolation": resample})


def pictures() -> list[Pixels]:
    """Noise, two grey levels, a white half, noise of few levels, a wide and a high image."""
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (48, 48, 3), np.uint8)
    half = noise.copy()
    half[:, 20:] = 255
    narrow = noise // 2 + 30
    wide = generator.integers(0, 256, (5, 60, 3), np.uint8)
    return [noise, noise & 128, half, narrow, wide, np.ascontiguousarray(wide.transpose(1, 0, 2))]


def differences(name: str, *values: float) -> int:
    """Bytes in which our operation differs from timm's, over all pictures."""
    timms = operation(name)
    ours = operation_of(timms)
    found = 0
    for picture in pictures():
        before = picture.copy()
        expected = timms.aug_fn(Image.fromarray(picture), *values, **timms.kwargs)
        found += int((ours(picture, *values, **timms.kwargs) != np.asarray(expected)).sum())
        assert np.array_equal(picture, before)
    return found


@pytest.mark.parametrize("name", MOVES)
def test_moves_are_pillows_to_the_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any magnitude, whole and half pixels, and shifts whose sums are rounded to whole ones."""
    monkeypatch.setattr(operations, "SMALL", 0)
    generator = np.random.default_rng(1)
    special = (0.0, 0.25, -0.5, 1 / 48, 1.5 / 48, 1 / 48 - 1e-17, 1 - 1e-16, 0.45, -0.3, 1.1, -1.2)
    for value in (*generator.uniform(-0.46, 0.46, 30), *special):
        assert differences(name, float(value)) == 0, value


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Invert", [()]),
        ("Solarize", [(0,), (1,), (26,), (128,), (255,), (256,)]),
        ("SolarizeAdd", [(0,), (1,), (99,), (110,), (128,)]),
        ("Posterize", [(1,), (2,), (4,), (7,), (8,)]),
        ("Sharpness", [(0.1,), (0.19,), (0.5,), (1.0,), (1.37,), (1.81,), (1.9,)]),
        ("Brightness", [(0.1,), (0.37,), (1.0,), (1.37,), (1.9,)]),
        ("ContrastIncreasing", [(0.1,), (0.37,), (1.0,), (1.37,), (1.9,)]),
        ("AutoContrast", [()]),
        ("Equalize", [()]),
        ("ColorIncreasing", [(1.8,)]),
    ],
)
def test_other_operations_are_pillows_to_the_bit(
    name: str, values: list[tuple[float, ...]]
) -> None:
    assert sum(differences(name, *drawn) for drawn in values) == 0


def test_posterize_to_no_bits_gives_a_black_image() -> None:
    assert not posterize(pictures()[0], 0).any()


@pytest.mark.parametrize("resample", [Image.Resampling.NEAREST, (Image.Resampling.BILINEAR,)])
@pytest.mark.parametrize("name", MOVES)
def test_moves_with_another_resampling_are_left_to_pillow(name: str, resample: object) -> None:
    timms = operation(name, resample)
    ours = operation_of(timms)
    picture = pictures()[0]
    expected = timms.aug_fn(Image.fromarray(picture), 0.3, **timms.kwargs)
    assert np.array_equal(ours(picture, 0.3, **timms.kwargs), np.asarray(expected))


def as_before(recipe: RecipeConfig, side: int) -> Callable[[torch.Tensor], Pixels]:
    """The view by torchvision's functions and timm's policy on Pillow's images."""
    crop = RandomResizedCropAndInterpolation(side, interpolation=recipe.interpolation)
    flip = RandomHorizontalFlip(recipe.hflip)
    fill = tuple(round(255 * mean) for mean in (0.485, 0.456, 0.406))
    policy = rand_augment_transform(POLICY, {"img_mean": fill, "interpolation": BICUBIC})
    for timms in policy.ops:
        if timms.aug_fn is auto_augment.posterize:
            timms.aug_fn = lambda image, bits, **_: (
                auto_augment.posterize(image, bits) if bits else image.point(lambda _: 0)
            )

    def view(pixels: torch.Tensor) -> Pixels:
        upper, left, height, width = crop.get_params(pixels, crop.scale, crop.ratio)
        box = pixels[:, upper : upper + height, left : left + width]
        resized = resize(box, [side, side], interpolation=crop.interpolation, antialias=True)
        return np.asarray(policy(flip(to_pil_image(resized))))

    return view


def test_views_of_photographs_are_those_of_torchvision_and_timm_to_the_bit(tmp_path: Path) -> None:
    """Boxes, flips, draws and pixels of DeiT's recipe, and what is drawn after them."""
    images = write_photographs(tmp_path, 4)
    opened = [open_image(images, number) for number in range(4)]
    recipe = RecipeConfig(epochs=10, global_batch=32, base_lr=1e-3, rand_augment=POLICY)
    data = DataConfig("colour", DataSource.image_folder, None, 10, 100, 10)
    ours, before = train_transform(recipe, data, 224), as_before(recipe, 224)
    for seed in range(60):
        found = []
        for transform in (ours, before):
            seed_everything(seed)
            view = transform(opened[seed % 4])
            drawn = (random.random(), np.random.random(), float(torch.rand(1)))
            found.append((view, drawn))
        (view, drawn), (expected, expected_drawn) = found
        assert np.array_equal(view.permute(1, 2, 0).numpy(), expected)
        assert drawn == expected_drawn
