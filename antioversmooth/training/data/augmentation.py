"""Views of decoded images: timm's transforms give bytes, the device normalises and erases.

Shapes: B images, C channels, S pixels along a side.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from timm.data.auto_augment import RandAugment
from timm.data.transforms import (
    RandomResizedCropAndInterpolation,
    str_to_pil_interp,
)
from timm.data.transforms_factory import transforms_imagenet_eval, transforms_imagenet_train
from torch import Tensor
from torchvision.transforms import Compose, InterpolationMode, RandomCrop
from torchvision.transforms.functional import pad, to_pil_image
from torchvision.transforms.v2.functional import resize

from antioversmooth.config import FAST, DataConfig, RecipeConfig
from antioversmooth.training.data.erasing import Erasing
from antioversmooth.training.data.operations import Operation, Plan, drawing, with_pillow
from antioversmooth.training.data.shifts import Pixels
from antioversmooth.training.randomness import (
    State,
    generator_states,
    restore_generators,
    seed_everything,
)

Transform = Callable[[Tensor], Tensor]
"""From a decoded image [1 or 3, height, width] to a view [C, S, S]; both uint8."""
Crop = Callable[[Tensor], Pixels]
"""A crop that is drawn: [3, height, width] uint8 -> [S, S, 3] uint8."""
DIVISORS = (1, 2, 4, 8)
"""By which libjpeg decodes an image in less time than whole."""
PADDING = 4
"""Black pixels on each side of an image, before `recipe.crop: padded` crops it: the released
code's."""


class Draws(NamedTuple):
    """Random choices of a view, all of which are made before a pixel is touched.

    The draws of several views in a row take a third of the time that they take one by one, each
    after the pixels of the view before.
    """

    crop: Crop
    plan: Plan
    state: State | None
    """Of the generators then, where later steps draw more."""


class TrainTransform:
    """From a decoded image [1 or 3, height, width] to a training view [C, S, S]; both uint8.

    Args:
        policy: Adds to a plan what it draws; None: there is none.
        later: Steps that draw as they go, on [S, S, 3] uint8.
        channels: C.
        decodes_fast: Whether images may be those of `open_fast`.
    """

    def __init__(
        self,
        crop: ResizedCrop | PaddedCrop,
        policy: RandAugment | None,
        later: Sequence[Operation],
        *,
        channels: int,
        decodes_fast: bool,
    ) -> None:
        self.crop, self.policy, self.later = crop, policy, later
        self.channels, self.decodes_fast = channels, decodes_fast

    def __call__(self, pixels: Tensor) -> Tensor:
        """A view, drawn from the global generators."""
        return self.apply(pixels, self.draw((pixels.shape[-2], pixels.shape[-1])))

    def draw(self, size: tuple[int, int]) -> Draws:
        """The draws of a view from the global generators.

        Args:
            size: Height and width of the image, before its decoder divided it.
        """
        crop = self.crop.draw(*size)
        plan: Plan = self.policy(()) if self.policy else ()
        return Draws(crop, plan, generator_states() if self.later else None)

    def apply(self, pixels: Tensor, draws: Draws) -> Tensor:
        """The view that was drawn; where later steps draw more, from the generators as then."""
        view = draws.crop(pixels.expand(3, -1, -1))
        for operation in draws.plan:
            view = operation(view)
        if draws.state is not None:
            restore_generators(draws.state)
        for step in self.later:
            view = step(view)
        return torch.from_numpy(_in_channels(self.channels, view)).permute(2, 0, 1)

    def divisor(self, seed: int, height: int, width: int) -> int:
        """By which the decoder may divide an image, whose crop is then still twice the view.

        Args:
            seed: Of the view.
        """
        assert isinstance(self.crop, ResizedCrop)
        least = 2 * max(self.crop.crop.size)
        if min(height, width) < 2 * least:
            return 1
        seed_everything(seed)
        _, _, box_height, box_width = self.crop.box(height, width)
        return max(by for by in DIVISORS if by == 1 or by * least <= min(box_height, box_width))


def train_transform(recipe: RecipeConfig, data: DataConfig, image_size: int) -> TrainTransform:
    """Crop, flip and augmentation of a training view, drawn from the global generators.

    Images with one channel are augmented as grey RGB, which all of timm's operations accept.
    """
    crop, augment, _ = transforms_imagenet_train(
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
    steps = list(augment.transforms)
    if recipe.moves_by is not None:
        for operation in (of for step in steps for of in getattr(step, "ops", ())):
            operation.kwargs["resample"] = str_to_pil_interp(recipe.moves_by)
    policy = _drawing(steps.pop(0)) if steps and isinstance(steps[0], RandAugment) else None
    return TrainTransform(
        ResizedCrop(crop.transforms[0], recipe.hflip)
        if recipe.resizes
        else PaddedCrop(image_size, recipe.hflip),
        policy,
        [with_pillow(step) for step in steps],
        channels=data.in_channels,
        decodes_fast=recipe.policy == FAST and recipe.resizes,
    )


def _drawing(policy: RandAugment) -> RandAugment:
    """The policy with operations that add what is drawn to a plan."""
    for operation in policy.ops:
        operation.aug_fn = drawing(operation)
    # NumPy, which chooses among them, makes an array of a list each time
    policy.ops = np.array(policy.ops, dtype=object)
    return policy


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


def _to_channels(channels: int) -> Callable[[Image.Image], Image.Image]:
    # a partial, since worker processes may need to pickle it
    return partial(_in_mode, {1: "L", 3: "RGB"}[channels])


def _in_mode(mode: str, image: Image.Image) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)


def _in_channels(channels: int, pixels: Pixels) -> Pixels:
    """[S, S, 3] -> [S, S, channels]."""
    if channels == 3:
        return pixels
    return np.array(Image.fromarray(pixels).convert("L"))[..., None]


def _to_array(pixels: Tensor) -> Pixels:
    """[3, S, S] -> [S, S, 3], together in memory."""
    return pixels.permute(1, 2, 0).contiguous().numpy()


class PaddedCrop:
    """torchvision's random crop out of a frame of `PADDING` black pixels, with its draws; flipped.

    Args:
        side: S.
        flip: Probability that the crop is mirrored.
    """

    def __init__(self, side: int, flip: float = 0.0) -> None:
        self.side = side
        self.flip = flip

    def draw(self, height: int, width: int) -> Crop:
        """A crop of images of a size, drawn from the global generators."""
        framed = torch.empty(1, 1).expand(height + 2 * PADDING, width + 2 * PADDING)
        upper, left, _, _ = RandomCrop.get_params(framed, (self.side, self.side))
        return partial(self._cut, upper, left, _is_drawn(self.flip))

    def _cut(self, upper: int, left: int, flipped: bool, pixels: Tensor) -> Pixels:
        framed = pad(pixels, [PADDING] * 4)
        crop = framed[:, upper : upper + self.side, left : left + self.side]
        return _to_array(crop.flip(-1) if flipped else crop)


def _is_drawn(probability: float) -> bool:
    """Whether a view is mirrored, drawn as torchvision draws it; not at all with probability 0."""
    return probability > 0 and bool(torch.rand(1) < probability)


_KERNELS: dict[InterpolationMode, Callable[..., Tensor]] = {
    InterpolationMode.BILINEAR: torch.ops.aten._upsample_bilinear2d_aa,
    InterpolationMode.BICUBIC: torch.ops.aten._upsample_bicubic2d_aa,
}
"""Kernels that torchvision's resize with antialiasing calls, after its checks and hooks."""


class ResizedCrop:
    """timm's random resized crop, with its boxes and draws, resampled by torch's kernels; flipped.

    The kernels resample bytes in a third of Pillow's time, and differ from Pillow by less than 0.03
    grey levels on average over boxes (on photographs of 500 x 375, to 224 x 224, bicubic with
    antialiasing in both).

    Args:
        flip: Probability that the crop is mirrored, drawn after the box as torchvision draws it.
    """

    def __init__(self, crop: RandomResizedCropAndInterpolation, flip: float = 0.0) -> None:
        self.crop = crop
        self.flip = flip

    def __call__(self, pixels: Tensor) -> Pixels:
        """[3, height, width] uint8 -> [S, S, 3] uint8, drawn from the global generators."""
        return self.draw(pixels.shape[-2], pixels.shape[-1])(pixels)

    def draw(self, height: int, width: int) -> Crop:
        """A crop of images of a size, drawn from the global generators.

        Of an image of another size it is the same part.
        """
        box, interpolation = self.box(height, width), self._interpolation()
        return partial(self._cut, (height, width), box, interpolation, _is_drawn(self.flip))

    def _cut(
        self,
        size: tuple[int, int],
        box: tuple[int, int, int, int],
        interpolation: InterpolationMode,
        flipped: bool,
        pixels: Tensor,
    ) -> Pixels:
        upper, left, height, width = box
        rows = _part(upper, height, size[0], pixels.shape[-2])
        columns = _part(left, width, size[1], pixels.shape[-1])
        # The kernels are fastest on channels-last pixels, which PIL images have anyway.
        part = pixels[None, :, rows, columns].contiguous(memory_format=torch.channels_last)
        resized = self._resized(part, interpolation)[0]
        return _to_array(resized.flip(-1) if flipped else resized)

    def box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """First row, first column, height and width of the crop of an image, drawn anew."""
        # timm asks the image for its size alone
        image = torch.empty(1, 1).expand(height, width)
        drawn: tuple[int, int, int, int] = self.crop.get_params(
            image, self.crop.scale, self.crop.ratio
        )
        return drawn

    def _resized(self, box: Tensor, interpolation: InterpolationMode) -> Tensor:
        size = list(self.crop.size)
        kernel = _KERNELS.get(interpolation)
        # equal sizes are left alone by torchvision too
        if kernel is None or list(box.shape[-2:]) == size:
            resized: Tensor = resize(box, size, interpolation=interpolation)
            return resized
        return kernel(box, size, False, None, None)

    def _interpolation(self) -> InterpolationMode:
        """timm's, which of several is drawn after the box."""
        known = self.crop.interpolation
        return random.choice(known) if isinstance(known, tuple) else known


def _part(first: int, length: int, whole: int, pixels: int) -> slice:
    """The part of a side, which has `pixels` where the whole has `whole`, to the nearest pixel."""
    if pixels == whole:
        return slice(first, first + length)
    return slice(
        *((2 * place * pixels + whole) // (2 * whole) for place in (first, first + length))
    )


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
        self.device = device
        self.mean = 255 * torch.tensor(data.mean, device=device).view(1, -1, 1, 1)
        self.std = 255 * torch.tensor(data.std, device=device).view(1, -1, 1, 1)
        self.erasing = Erasing(recipe, seed=seed) if recipe and recipe.random_erasing else None

    def normalise(self, images: Tensor) -> Tensor:
        """[B, C, S, S] uint8, on any device and in any order in memory -> float32 on this one."""
        planes = images.to(self.device, non_blocking=True)
        floats = planes.to(torch.float32, memory_format=torch.contiguous_format)
        return floats.sub_(self.mean).div_(self.std)

    def training(self, images: Tensor, first_view: int) -> Tensor:
        """Normalised and erased images; the numbers of their views, which follow one another from
        `first_view`, decide on the erasing."""
        normalised = self.normalise(images)
        return normalised if self.erasing is None else self.erasing(normalised, first_view)
