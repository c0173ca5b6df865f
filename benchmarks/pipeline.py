"""Training views per second and core, from JPEG files: ours beside usual pipelines of torchvision
and timm.

The images are crops of the two photographs that come with scikit-learn, with noise of their own:
files of about the size and the entropy of ImageNet's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import numpy as np
import timm.data
import torch
from PIL import Image
from timm.data import auto_augment
from torchvision.transforms import v2

from antioversmooth.config import FAST, DataConfig, RecipeConfig
from antioversmooth.datasets.decoded import DecodedCache
from antioversmooth.datasets.images import FileImages, Images, encode_names
from antioversmooth.errors import DataError
from antioversmooth.training.data.augmentation import Transform, train_transform
from antioversmooth.training.data.caching import make_parts
from antioversmooth.training.data.loading import ViewDataset
from antioversmooth.training.data.memory import reuse_memory
from antioversmooth.training.data.sampling import View
from antioversmooth.training.randomness import seed_everything
from benchmarks.timing import Clock, Times, interleaved

SIZE = (500, 375)
"""Width and height of the images, in pixels: the most frequent of ImageNet."""
QUALITY = 91
"""JPEG quality that gives files of about ImageNet's size."""
SIDE = 224
"""Pixels along one side of a view."""
TIMM = "timm, float"


@dataclass(frozen=True)
class Variant:
    """One of our pipelines."""

    repeats: int = 1
    """Views of an image that follow one another, which one decode serves."""
    interpolation: str | None = None
    """`rand_augment_interpolation`."""
    policy: str = "exact"
    """`policy`."""
    cached: bool = False
    """Whether the images come from a decoded cache."""

    def recipe(self, recipe: RecipeConfig) -> RecipeConfig:
        """A recipe in this variant."""
        return replace(recipe, rand_augment_interpolation=self.interpolation, policy=self.policy)


OURS = {
    "ours": Variant(),
    "ours, repeated augmentation": Variant(repeats=3),
    "ours, nearest": Variant(interpolation="nearest"),
    "ours, nearest, repeated augmentation": Variant(3, "nearest"),
    "ours, fast": Variant(policy=FAST),
    "ours, fast, repeated augmentation": Variant(3, policy=FAST),
    "ours, decoded cache": Variant(cached=True),
    "ours, decoded cache, fast": Variant(policy=FAST, cached=True),
}
CACHE_SIDE = 256
"""Short side of the images of the decoded cache, in pixels."""


def write_photographs(folder: Path, number: int) -> FileImages:
    """JPEG files in a new folder.

    Raises:
        DataError: scikit-learn, whose photographs they are, is not installed.
    """
    generator = np.random.default_rng(0)
    photographs = [Image.open(path) for path in _photographs()]
    paths = [f"{index}.jpg" for index in range(number)]
    for index, path in enumerate(paths):
        photograph = photographs[index % len(photographs)]
        width, height = (int(length * generator.uniform(0.75, 1)) for length in photograph.size)
        left = int(generator.integers(photograph.width - width + 1))
        upper = int(generator.integers(photograph.height - height + 1))
        crop = photograph.crop((left, upper, left + width, upper + height)).resize(
            SIZE, Image.Resampling.BICUBIC
        )
        noisy = np.asarray(crop) + generator.normal(0, 6, (SIZE[1], SIZE[0], 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / path, quality=QUALITY)
    return FileImages(folder, encode_names(paths), np.zeros(number, np.int64))


def _photographs() -> list[Path]:
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise DataError(
            "the photographs are files of the package scikit-learn; pip install scikit-learn"
        )
    folder = Path(spec.origin).parent / "datasets" / "images"
    return [folder / "china.jpg", folder / "flower.jpg"]


def compare_pipelines(
    images: FileImages, recipe: RecipeConfig, data: DataConfig, clock: Clock, *, rounds: int
) -> Times:
    """Seconds that one image after another takes, all of `images` a round, in each pipeline.

    Each round draws other views: a rotation takes as long as ten of the cheap operations, and those
    of a single draw are more or fewer than their share.
    """
    # as a loading process does; it is the same process for all pipelines
    reuse_memory()
    opened = {"torchvision": _torchvision_transform(), TIMM: _timm_transform(recipe)}
    usual = {name: partial(_each, images, how, count()) for name, how in opened.items()}
    ours = {}
    cache = DecodedCache(images.root / "cache", images)
    list(make_parts(cache, cache.parts, side=CACHE_SIDE, processes=0))
    decoded = cache.open()
    for name, variant in OURS.items():
        transform = train_transform(variant.recipe(recipe), data, SIDE)
        source = decoded if variant.cached else images
        ours[name] = partial(_views, source, transform, variant.repeats, count())
    return interleaved({**usual, **ours}, clock, rounds=rounds)


def _each(
    images: FileImages, transform: Callable[[Image.Image], object], seeds: Iterator[int]
) -> None:
    seed_everything(next(seeds))
    for index in range(len(images.labels)):
        with Image.open(images.name(index)) as image:
            transform(image.convert("RGB"))


def _views(images: Images, transform: Transform, repeats: int, seeds: Iterator[int]) -> None:
    views = ViewDataset(images, transform, seed=next(seeds))
    views.__getitems__([View(number, number // repeats) for number in range(len(views))])


def _timm_transform(recipe: RecipeConfig) -> Callable[[Image.Image], object]:
    """timm's own for the same recipe: normalised floats, erased on the CPU."""
    transform = timm.data.create_transform(
        SIDE,
        is_training=True,
        auto_augment=recipe.rand_augment,
        re_prob=recipe.random_erasing,
        interpolation="bicubic",
    )
    for step in transform.transforms:
        for operation in getattr(step, "ops", ()):
            if operation.aug_fn is auto_augment.posterize:
                operation.aug_fn = posterized
    made: Callable[[Image.Image], object] = transform
    return made


def posterized(image: Image.Image, bits: int, **_: object) -> Image.Image:
    """As timm's operation with Pillow up to 12; Pillow 13 refuses 0 bits, which timm draws."""
    upper: Image.Image = auto_augment.posterize(image, bits) if bits else image.point(lambda _: 0)
    return upper


def _torchvision_transform() -> Callable[[Image.Image], object]:
    """As torchvision's reference training script has it."""
    transform: Callable[[Image.Image], object] = v2.Compose(
        [
            v2.RandomResizedCrop(SIDE, interpolation=v2.InterpolationMode.BICUBIC),
            v2.RandomHorizontalFlip(),
            v2.RandAugment(num_ops=2, magnitude=9, interpolation=v2.InterpolationMode.BILINEAR),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD),
            v2.RandomErasing(0.25),
        ]
    )
    return transform


def made_views(
    images: FileImages, recipe: RecipeConfig, data: DataConfig, *, number: int
) -> dict[str, int]:
    """Of so many `augmentations`, how many views came out `whole`, as bytes of the right shape, and
    how many `black`.

    An augmentation that fails ends it.
    """
    views = ViewDataset(images, train_transform(recipe, data, SIDE), seed=1)
    per_image = -(-number // len(views))
    found = {"augmentations": number, "whole": 0, "black": 0}
    for index in range(number):
        view = torch.as_tensor(views[View(index, index // per_image)][0])
        found["whole"] += view.shape == (3, SIDE, SIDE) and view.dtype == torch.uint8
        found["black"] += not view.any()
    return found
