from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from timm.data.auto_augment import AugmentOp
from timm.data.transforms import RandomResizedCropAndInterpolation
from timm.data.transforms_factory import transforms_imagenet_train
from torchvision.transforms import Compose, RandomCrop, RandomHorizontalFlip
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

from antioversmooth.config import DataConfig, DataSource, RecipeConfig
from antioversmooth.errors import SpecError
from antioversmooth.training.data.augmentation import (
    DevicePreprocessing,
    ResizedCrop,
    eval_transform,
    is_random,
    train_transform,
)
from antioversmooth.training.data.decoding import open_image
from antioversmooth.training.randomness import seed_everything
from benchmarks.pipeline import write_photographs

GREY = DataConfig("grey", DataSource.digits, None, 10, 100, 10, 1, [0.25], [0.5])
COLOUR = DataConfig("colour", DataSource.image_folder, None, 10, 100, 10)
RECIPE = RecipeConfig(epochs=10, global_batch=32, base_lr=1e-3)
PLAIN = replace(
    RECIPE,
    rand_augment=None,
    color_jitter=0.0,
    hflip=0.0,
    crop_scale=[1.0, 1.0],
    crop_ratio=[1.0, 1.0],
)
CPU = torch.device("cpu")


def image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))


def pixels() -> torch.Tensor:
    return pil_to_tensor(image())


@pytest.mark.parametrize(("data", "channels"), [(GREY, 1), (COLOUR, 3)])
def test_views_are_bytes_with_the_channels_of_the_data(data: DataConfig, channels: int) -> None:
    for transform in (train_transform(RECIPE, data, 24), eval_transform(RECIPE, data, 24)):
        view = transform(pixels())
        assert view.shape == (channels, 24, 24)
        assert view.dtype == torch.uint8


def test_a_seed_fixes_a_view() -> None:
    transform = train_transform(RECIPE, COLOUR, 24)
    views = []
    for seed in (1, 1, 2):
        seed_everything(seed)
        views.append(transform(pixels()))
    assert torch.equal(views[0], views[1])
    assert not torch.equal(views[0], views[2])


def test_without_random_parts_a_training_view_is_the_image() -> None:
    assert not is_random(PLAIN)
    view = train_transform(PLAIN, COLOUR, 40)(pixels())
    assert torch.equal(view, pixels())


@pytest.mark.parametrize(
    "change",
    [
        {"hflip": 0.5},
        {"rand_augment": "rand-m9"},
        {"color_jitter": 0.1},
        {"crop_scale": [0.5, 1.0]},
    ],
)
def test_any_random_part_makes_views_vary(change: dict[str, object]) -> None:
    assert is_random(replace(PLAIN, **change))


def test_evaluation_resizes_by_the_crop_and_takes_the_centre() -> None:
    wide = torch.zeros(3, 32, 64, dtype=torch.uint8)
    wide[:, 8:24, 24:40] = 255
    recipe = replace(RECIPE, eval_crop=0.5, interpolation="nearest")
    assert (eval_transform(recipe, COLOUR, 16)(wide) == 255).all()


def test_crops_are_timms_within_a_grey_level() -> None:
    """Same boxes; the resampled pixels differ by rounding."""
    smooth = np.stack(
        [*np.meshgrid(np.arange(120), np.arange(90)), np.full((90, 120), 7)], 2
    ).astype(np.uint8)
    timms = RandomResizedCropAndInterpolation(
        32, scale=(0.08, 1.0), ratio=(0.75, 4 / 3), interpolation="bicubic"
    )
    ours = ResizedCrop(timms)
    for seed in range(20):
        seed_everything(seed)
        expected = np.asarray(timms(Image.fromarray(smooth))).astype(int)
        seed_everything(seed)
        difference = np.abs(
            np.asarray(ours(pil_to_tensor(Image.fromarray(smooth)))).astype(int) - expected
        )
        assert difference.max() <= 1
        assert difference.mean() < 0.03


def test_crops_of_photographs_are_pillows_within_three_hundredths_of_a_level(
    tmp_path: Path,
) -> None:
    """On average over boxes: most differ by 0.004, those whose width is enlarged by 0.2; at most
    0.03 is promised."""
    images = write_photographs(tmp_path, 4)
    opened = [open_image(images, number) for number in range(4)]
    timms = RandomResizedCropAndInterpolation(
        224, scale=(0.08, 1.0), ratio=(0.75, 4 / 3), interpolation="bicubic"
    )
    ours = ResizedCrop(timms)
    differences = []
    for seed in range(80):
        photograph = opened[seed % 4]
        seed_everything(seed)
        expected = np.asarray(timms(to_pil_image(photograph))).astype(int)
        seed_everything(seed)
        differences.append(np.abs(np.asarray(ours(photograph)).astype(int) - expected).mean())
    assert 0 < np.mean(differences) < 0.03


def test_a_crop_is_the_same_however_the_pixels_lie_in_memory() -> None:
    """A decoder leaves them together, as [height, width, 3]; Pillow's tensors are planes."""
    ours = ResizedCrop(
        RandomResizedCropAndInterpolation(32, scale=(0.08, 1.0), interpolation="bicubic")
    )
    planes = pixels()
    together = planes.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    for seed in range(10):
        crops = []
        for laid in (planes, together):
            seed_everything(seed)
            crops.append(np.asarray(ours(laid)))
        assert np.array_equal(*crops)


def test_the_resampling_of_rand_augment_can_be_another_one() -> None:
    """Nearest only moves values about, or fills; bicubic makes new ones. The draws are the same."""
    recipe = replace(PLAIN, rand_augment="rand-m9-n1-p1.0-inc1")
    two = torch.where(pixels() > 128, 255, 0).to(torch.uint8)
    moves = ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")
    values = {}
    for interpolation in (None, "nearest"):
        transform = train_transform(
            replace(recipe, rand_augment_interpolation=interpolation), COLOUR, 40
        )
        policy = transform.policy
        assert policy is not None
        policy.ops = [operation for operation in policy.ops if operation.name in moves]
        assert len(policy.ops) == len(moves)
        seed_everything(3)
        values[interpolation] = set(
            torch.stack([transform(two) for _ in range(20)]).unique().tolist()
        )
    assert values["nearest"] <= {0, 255, *(round(255 * mean) for mean in COLOUR.mean)}
    assert len(values[None]) > 100


@pytest.mark.parametrize(
    ("policy", "interpolation"),
    [
        ("rand-m7-n3-inc1", "bicubic"),
        ("rand-m7-n3-mstd0.5", "random"),
        ("rand-m5-n2-t3a", "bicubic"),
        ("3a", "bicubic"),
        ("augmix-m5-w3-d2", "bilinear"),
        ("original", "bicubic"),
        (None, "bilinear"),
    ],
)
def test_views_that_are_drawn_first_are_timms_whatever_is_drawn_in_between(
    policy: str | None, interpolation: str
) -> None:
    recipe = replace(
        RECIPE, rand_augment=policy, interpolation=interpolation, eval_interpolation="bicubic"
    )
    transform = train_transform(recipe, COLOUR, 24)
    crop, augment, _ = transforms_imagenet_train(
        24,
        hflip=recipe.hflip,
        color_jitter=recipe.color_jitter,
        auto_augment=policy,
        interpolation=interpolation,
        use_prefetcher=True,
        separate=True,
    )
    for seed in range(20):
        seed_everything(seed)
        draws = transform.draw((40, 40))
        seed_everything(1000 + seed)
        view = transform.apply(pixels(), draws).permute(1, 2, 0).numpy()
        seed_everything(seed)
        cropped = ResizedCrop(crop.transforms[0], recipe.hflip)(pixels())
        assert np.array_equal(view, np.asarray(augment(Image.fromarray(cropped))))


def test_padded_crops_are_torchvisions() -> None:
    transform = train_transform(replace(PLAIN, crop="padded", hflip=0.5), COLOUR, 36)
    torchvisions = Compose([RandomCrop(36, padding=4), RandomHorizontalFlip(0.5)])
    for seed in range(20):
        seed_everything(seed)
        view = transform(pixels())
        seed_everything(seed)
        assert torch.equal(view, torchvisions(pixels()))


def test_padded_crops_move_the_image_within_a_black_frame() -> None:
    recipe = replace(PLAIN, crop="padded")
    assert is_random(recipe)
    transform, places = train_transform(recipe, COLOUR, 40), set()
    framed = F.pad(pixels(), (4, 4, 4, 4))
    for seed in range(40):
        seed_everything(seed)
        view = transform(pixels())
        found = [
            (row, column)
            for row in range(9)
            for column in range(9)
            if torch.equal(view, framed[:, row : row + 40, column : column + 40])
        ]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) > 20


def test_with_padded_crops_evaluation_takes_images_as_they_are() -> None:
    recipe = replace(RECIPE, crop="padded", eval_crop=0.5)
    assert torch.equal(eval_transform(recipe, COLOUR, 40)(pixels()), pixels())


def test_evaluation_can_resample_otherwise_than_training() -> None:
    recipe = replace(RECIPE, interpolation="nearest", eval_crop=1.0)
    own = replace(recipe, eval_interpolation="bilinear")
    expected = eval_transform(replace(recipe, interpolation="bilinear"), COLOUR, 24)(pixels())
    assert torch.equal(eval_transform(own, COLOUR, 24)(pixels()), expected)
    assert not torch.equal(eval_transform(recipe, COLOUR, 24)(pixels()), expected)


def test_random_resampling_draws_bilinear_or_bicubic_after_the_box() -> None:
    """timm draws it so, and the released code with it."""
    recipe = replace(PLAIN, crop_scale=[0.08, 1.0], eval_interpolation="bicubic")
    drawn = set()
    for seed in range(10):
        views = {}
        for interpolation in ("bilinear", "bicubic", "random"):
            seed_everything(seed)
            changed = replace(recipe, interpolation=interpolation)
            views[interpolation] = train_transform(changed, COLOUR, 24)(pixels())
        drawn |= {name for name in views if torch.equal(views[name], views["random"])}
    assert drawn == {"bilinear", "bicubic", "random"}


@pytest.mark.parametrize("key", ["interpolation", "rand_augment_interpolation"])
def test_an_unknown_interpolation_is_refused_with_the_known_ones(key: str) -> None:
    with pytest.raises(
        SpecError,
        match=rf"recipe.{key}: 'bicubik' is not possible: one of nearest, bilinear, bicubic",
    ):
        replace(RECIPE, **{key: "bicubik"})


def test_every_operation_of_the_recipe_works_at_full_magnitude_on_any_pillow() -> None:
    """DeiT's recipe draws magnitudes around 9, cut off at 10, where posterize asks for 0 bits."""
    transform = train_transform(RECIPE, COLOUR, 24)
    policy = transform.policy
    assert policy is not None
    names = set()
    for operation in policy.ops:
        assert isinstance(operation, AugmentOp)
        operation.magnitude, operation.prob, operation.magnitude_std = 10, 1.0, 0
        for drawn in operation(()):
            drawn(np.array(image()))
        names.add(operation.name)
    assert "PosterizeIncreasing" in names


def test_a_hundred_thousand_augmentations_of_the_recipe_come_out_whole() -> None:
    """As the recipe draws them, on small images; some ask posterize for 0 bits, and those are
    black."""
    policy = train_transform(RECIPE, COLOUR, 24).policy
    assert policy is not None
    small = np.array(image().resize((8, 8)))
    seed_everything(0)
    black = 0
    for _ in range(100_000):
        augmented = small
        for drawn in policy(()):
            augmented = drawn(augmented)
        assert augmented.shape == (8, 8, 3)
        black += not augmented.any()
    assert black > 50


def test_normalising_subtracts_and_divides_per_channel() -> None:
    preprocessing = DevicePreprocessing(GREY, seed=0, device=CPU)
    images = torch.tensor([[[[0, 255]]]], dtype=torch.uint8)
    # (0 - 0.25) / 0.5 and (1 - 0.25) / 0.5
    expected = torch.tensor([[[[-0.5, 1.5]]]])
    assert torch.allclose(preprocessing.normalise(images), expected, atol=1e-6, rtol=0)


def test_erasing_follows_the_view_and_not_the_batch() -> None:
    preprocessing = DevicePreprocessing(
        COLOUR, seed=0, device=CPU, recipe=replace(RECIPE, random_erasing=0.5)
    )
    images = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8)
    together = preprocessing.training(images, 20)
    apart = torch.cat([preprocessing.training(images[i : i + 1], 20 + i) for i in range(8)])
    assert torch.equal(together, apart)
    erased = (together != preprocessing.normalise(images)).flatten(1).any(1)
    assert 0 < int(erased.sum()) < 8


@pytest.mark.parametrize(("mode", "colours"), [("const", 1), ("rand", 1), ("pixel", 100)])
def test_an_erased_rectangle_is_filled_by_its_mode(mode: str, colours: int) -> None:
    recipe = replace(RECIPE, random_erasing=1.0, erasing_mode=mode)
    preprocessing = DevicePreprocessing(GREY, seed=0, device=CPU, recipe=recipe)
    black = torch.zeros(1, 1, 32, 32, dtype=torch.uint8)
    erased = preprocessing.training(black, 7)
    # black is -0.5 here, and the mean of the data 0
    found = erased[erased != -0.5].unique()
    assert len(found) == colours if colours == 1 else len(found) > 10
    assert (found.tolist() == [0.0]) == (mode == "const")


def test_several_rectangles_share_the_area_of_one() -> None:
    recipe = replace(RECIPE, random_erasing=1.0, erasing_mode="const")
    shares = {}
    for count in (1, 4):
        preprocessing = DevicePreprocessing(
            GREY, seed=0, device=CPU, recipe=replace(recipe, erasing_count=count)
        )
        black = torch.zeros(200, 1, 32, 32, dtype=torch.uint8)
        erased = preprocessing.training(black, 0) != -0.5
        shares[count] = float(erased.float().mean())
        # rectangles that do not touch have rows of the image between them, or columns
        parts = [sum(_runs(image.any(axis)) > 1 for image in erased[:, 0]) for axis in (0, 1)]
        assert (max(parts) > 0) == (count > 1)
    # areas are drawn from 2 % to a third; those of several overlap
    assert shares[1] == pytest.approx((0.02 + 1 / 3) / 2, abs=0.03)
    assert shares[4] < shares[1]


def _runs(line: torch.Tensor) -> int:
    """Number of unbroken parts of a line that are true."""
    return int((line.int().diff(prepend=torch.zeros(1, dtype=torch.int)) == 1).sum())
