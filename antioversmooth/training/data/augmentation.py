"""Views of decoded images: timm's transforms give bytes, the device normalises and erases.

Shapes: B images, C channels, S pixels along a side.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain

import torch
from PIL import Image
from timm.data.auto_augment import posterize
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import (
    RandomResizedCropAndInterpolation,
    str_to_pil_interp,
)
from timm.data.transforms_factory import transforms_imagenet_eval, transforms_imagenet_train
from torch import Tensor
from torchvision.transforms import Compose, InterpolationMode, RandomCrop
from torchvision.transforms.functional import to_pil_image
from torchvision.transforms.v2.functional import resize

from antioversmooth.config import DataConfig, RecipeConfig
from antioversmooth.training.randomness import seed_everything, seed_for

Transform = Callable[[Tensor], Tensor]
"""From a decoded image [1 or 3, height, width] to a view [C, S, S]; both uint8."""
PADDING = 4
"""Black pixels on each side of an image, before `recipe.crop: padded` crops it: the released
code's."""


def train_transform(recipe: RecipeConfig, data: DataConfig, image_size: int) -> Transform:
    """Crop, flip and augmentation of a training view, drawn from the global generators.

    Images with one channel are augmented as grey RGB, which all of timm's operations accept.
    """
    crop, augment, to_bytes = transforms_imagenet_train(
        image_size,
        scale=(recipe.crop_scale[0], recipe.crop_scale[1]),
        ratio=(recipe.crop_ratio[0], recipe.crop_ratio[1]),
        hflip=recipe.hflip,
        color_jitter=recipe.color_jitter,
        auto_augment=recipe.rand_augment,
        interpolation=recipe.interpolation,
        mean=tuple(data.mean * (3 // data.in_channels)),
        use_prefetcher=True,
        separate=True,
    )
    for operation in chain.from_iterable(getattr(t, "ops", ()) for t in augment.transforms):
        if operation.aug_fn is posterize:
            operation.aug_fn = _posterize
        if recipe.rand_augment_interpolation is not None:
            operation.kwargs["resample"] = str_to_pil_interp(recipe.rand_augment_interpolation)
    crop.transforms[0] = _crop(crop.transforms[0], recipe, image_size)
    return _composed(_as_rgb, crop, augment, _to_channels(data.in_channels), to_bytes)


def eval_transform(recipe: RecipeConfig, data: DataConfig, image_size: int) -> Transform:
    """Resizes the short side to image_size / eval_crop, then crops the centre to image_size.

    With `recipe.crop: padded` images have this size, and stay as they are.
    """
    resize = transforms_imagenet_eval(
        image_size,
        crop_pct=recipe.eval_crop if recipe.resizes else 1.0,
        interpolation=recipe.eval_interpolation or recipe.interpolation,
        use_prefetcher=True,
    )
    return _composed(to_pil_image, _to_channels(data.in_channels), resize)


def _composed(*steps: Callable[..., object]) -> Transform:
    composed: Transform = Compose(steps)
    return composed


def is_random(recipe: RecipeConfig) -> bool:
    """Whether two training views of an image can differ, before erasing and mixing."""
    whole_image = (
        recipe.resizes and list(recipe.crop_scale) == [1, 1] and list(recipe.crop_ratio) == [1, 1]
    )
    return (
        recipe.hflip > 0 or bool(recipe.rand_augment) or recipe.color_jitter > 0 or not whole_image
    )


def _as_rgb(pixels: Tensor) -> Tensor:
    return pixels.expand(3, -1, -1)


def _to_channels(channels: int) -> Callable[[Image.Image], Image.Image]:
    # a partial, since worker processes may need to pickle it
    return partial(_in_mode, {1: "L", 3: "RGB"}[channels])


def _in_mode(mode: str, image: Image.Image) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)


def _crop(
    timms: RandomResizedCropAndInterpolation, recipe: RecipeConfig, image_size: int
) -> Callable[[Tensor], Image.Image]:
    """The crop of a recipe: [3, height, width] uint8 -> an image of S x S."""
    if recipe.resizes:
        return FastCrop(timms)
    cropped: Callable[[Tensor], Image.Image] = Compose(
        [RandomCrop(image_size, padding=PADDING), to_pil_image]
    )
    return cropped


class FastCrop:
    """timm's random resized crop, with its boxes, resampled by torchvision's kernels.

    The kernels resample bytes in a third of Pillow's time, and differ from Pillow by less than 0.03
    grey levels on average over boxes (on photographs of 500 x 375, to 224 x 224, bicubic with
    antialiasing in both).
    """

    def __init__(self, crop: RandomResizedCropAndInterpolation) -> None:
        self.crop = crop

    def __call__(self, pixels: Tensor) -> Image.Image:
        """[3, height, width] uint8 -> an image of S x S."""
        upper, left, height, width = self.crop.get_params(pixels, self.crop.scale, self.crop.ratio)
        # The kernels are fastest on channels-last pixels, which PIL images have anyway.
        box = pixels[None, :, upper : upper + height, left : left + width]
        box = box.contiguous(memory_format=torch.channels_last)
        resized = resize(
            box, list(self.crop.size), interpolation=self._interpolation(), antialias=True
        )
        return Image.fromarray(resized[0].permute(1, 2, 0).contiguous().numpy())

    def _interpolation(self) -> InterpolationMode:
        """timm's, which of several is drawn after the box."""
        known = self.crop.interpolation
        return random.choice(known) if isinstance(known, tuple) else known


def _posterize(image: Image.Image, bits: int, **options: object) -> Image.Image:
    """timm's posterize; 0 bits give a black image.

    timm draws 0 bits at full magnitude, in about two of a thousand images of DeiT's recipe. Pillow
    gave black until 12, and raises from 13 on.
    """
    return posterize(image, bits, **options) if bits > 0 else image.point(lambda _: 0)


class DevicePreprocessing:
    """Normalises images, and erases in training, on the device, so that only bytes are copied.

    Args:
        recipe: What training erases; None: nothing.
    """

    def __init__(
        self,
        data: DataConfig,
        *,
        seed: int,
        device: torch.device,
        recipe: RecipeConfig | None = None,
    ) -> None:
        self.seed = seed
        self.device = device
        self.mean = 255 * torch.tensor(data.mean, device=device).view(1, -1, 1, 1)
        self.std = 255 * torch.tensor(data.std, device=device).view(1, -1, 1, 1)
        self.erasing = _erasing(recipe, device) if recipe and recipe.random_erasing else None

    def normalise(self, images: Tensor) -> Tensor:
        """[B, C, S, S] uint8, on any device -> float32 on this one."""
        return (images.to(self.device, non_blocking=True).float() - self.mean) / self.std

    def training(self, images: Tensor, views: Sequence[int]) -> Tensor:
        """Normalised and erased images; the numbers in `views` seed the erasing."""
        normalised = self.normalise(images)
        if self.erasing is not None:
            for image, view in zip(normalised, views, strict=True):
                seed_everything(seed_for(self.seed, "erase", view))
                self.erasing(image)
        return normalised


def _erasing(recipe: RecipeConfig, device: torch.device) -> RandomErasing:
    return RandomErasing(
        recipe.random_erasing,
        mode=recipe.erasing_mode,
        max_count=recipe.erasing_count,
        device=device,
    )
