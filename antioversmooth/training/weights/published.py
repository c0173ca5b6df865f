"""Analysis of timm's models on a folder of images: models and data that no spec describes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from timm.data import create_transform, resolve_model_data_config
from torch import Tensor, nn
from torchvision.transforms.functional import to_pil_image

from antioversmooth.analysis.measures import measure
from antioversmooth.analysis.record import Analysis
from antioversmooth.datasets.passed_over import EXTENSIONS
from antioversmooth.errors import DataError
from antioversmooth.models.supported import require_known, self_attentions
from antioversmooth.models.weights import published_model
from antioversmooth.training.data.decoding import decode
from antioversmooth.training.weights.analyse import BATCH


def analyse_published(tag: str, folder: Path, *, num_images: int) -> Analysis:
    """All measures of the layers of timm's weights of a tag, on the images of a folder.

    Args:
        tag: As in timm.create_model: vit_small_patch16_224.
        folder: Holds images, at any depth.
        num_images: Maximum number of images, spread evenly over those in the folder.

    Raises:
        CheckpointError: No such tag, or no way to fetch it.
        DataError: There is no image, or one cannot be read.
        ModelError: Its attention layers are not measured.
    """
    images, total = find_images(folder, num_images)
    found = analyse_model(
        published_model(tag),
        images,
        title=tag,
        weights=f"timm:{tag}",
        data=f"the folder {folder.resolve().name}",
    )
    return replace(
        found,
        checksums={"sample": _checksum(images)},
        selection=Analysis.evenly_spaced(num_images, total, "by name"),
    )


def analyse_model(
    model: nn.Module, images: Sequence[Path], *, title: str, weights: str, data: str
) -> Analysis:
    """All measures of the layers of a timm model, on images preprocessed as timm evaluates it.

    Args:
        title: Title of the model, for people.
        weights: Name of its weights.
        data: Name of the images, for people.

    Raises:
        DataError: An image cannot be read.
        ModelError: Its attention layers are not measured.
    """
    for layer in self_attentions(model):
        require_known(layer)
    found = measure(model, image_batches(model, images), title=title, weights=weights)
    return replace(found, data=data)


def find_images(folder: Path, count: int) -> tuple[list[Path], int]:
    """At most `count` image files below a folder, spread evenly over all of them by name; and the
    number of all.

    Raises:
        DataError: There is none, or no such folder.
    """
    if not folder.is_dir():
        wrong = "is a file, and a folder belongs here" if folder.exists() else "no such folder"
        raise DataError(f"--data {folder}: {wrong}")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS)
    if not found:
        raise DataError(f"--data {folder}: holds no image; they end in {', '.join(EXTENSIONS)}")
    places = np.linspace(0, len(found) - 1, min(count, len(found)), dtype=int)
    return [found[place] for place in places], len(found)


def _checksum(images: Sequence[Path]) -> str:
    """A sha256 over the content of images, in their order."""
    content = hashlib.sha256()
    for path in images:
        content.update(hashlib.sha256(path.read_bytes()).digest())
    return content.hexdigest()


def image_batches(model: nn.Module, images: Sequence[Path]) -> Iterator[Tensor]:
    """The images in batches [B, 3, S, S], preprocessed as timm evaluates the model.

    Raises:
        DataError: An image cannot be read.
    """
    transform = create_transform(**resolve_model_data_config(model), is_training=False)
    for first in range(0, len(images), BATCH):
        batch = [transform(to_pil_image(_read(path))) for path in images[first : first + BATCH]]
        yield torch.stack(batch)


def _read(path: Path) -> Tensor:
    try:
        return decode(path.read_bytes())
    except OSError as err:
        raise DataError(f"{path} cannot be read as an image ({err})") from err
