"""Makes the parts of a decoded cache in parallel processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from antioversmooth.datasets.decoded import DecodedCache
from antioversmooth.datasets.images import EncodedImages
from antioversmooth.training.data.decoding import open_image
from antioversmooth.training.data.workers import NOT_OF_AN_IMAGE, start_worker

CHUNK = 32
"""Images that a process decodes at a time."""


def make_parts(
    cache: DecodedCache, parts: Sequence[int], *, side: int, processes: int
) -> Iterator[int]:
    """Makes some parts of a cache; yields the number of each when it is written.

    Args:
        side: Pixels of the short side of an image; a smaller image stays as it is.
        processes: Processes beside this one.

    Raises:
        OSError: The file system refuses.
    """
    for part in parts:
        loader: DataLoader[Tensor] = DataLoader(
            _Shortened(cache.images, side),
            sampler=cache.indices(part),
            batch_size=CHUNK,
            num_workers=processes,
            collate_fn=list,
            worker_init_fn=partial(start_worker, None),
        )
        # copies, since each tensor of another process holds an open file
        pixels = [np.array(image.numpy()) for chunk in loader for image in chunk]
        cache.write(part, pixels)
        yield part


def readable_again(cache: DecodedCache, part: int) -> bool:
    """Whether an image can be read now that could not when a part was made."""
    images = _Shortened(cache.images, 1)
    return any(images[index].numel() for index in cache.unreadable(part))


class _Shortened(Dataset[Tensor]):
    def __init__(self, images: EncodedImages, side: int) -> None:
        self.images = images
        self.side = side

    def __len__(self) -> int:
        return len(self.images.labels)

    def __getitem__(self, index: int) -> Tensor:
        try:
            pixels = open_image(self.images, index)
        except OSError as err:
            if err.errno in NOT_OF_AN_IMAGE:
                raise
            return torch.empty(0, 0, 3, dtype=torch.uint8)
        return shortened(pixels, self.side).permute(1, 2, 0).contiguous()


def shortened(pixels: Tensor, side: int) -> Tensor:
    """[3, height, width] uint8, resampled so that its short side is `side`, by antialiased cubic
    convolution; an image that is not larger as it is."""
    height, width = pixels.shape[-2:]
    scale = side / min(height, width)
    if scale >= 1:
        return pixels
    size = [max(side, round(length * scale)) for length in (height, width)]
    box = pixels[None].contiguous(memory_format=torch.channels_last)
    resized: Tensor = torch.ops.aten._upsample_bicubic2d_aa(box, size, False, None, None)[0]
    return resized
