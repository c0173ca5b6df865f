"""Text tables in installed packages: one image a line, its label last."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from antioversmooth import files
from antioversmooth.config import DataConfig
from antioversmooth.datasets.images import ArrayImages
from antioversmooth.datasets.layouts.packaged import PACKAGED

SPLIT_SEED = 0
"""Seed of the training/validation split, the same for every run: these sets come without one."""


def read_splits(config: DataConfig) -> tuple[list[str], dict[str, ArrayImages], str]:
    """Classes, the splits, and the sha256 of the file.

    Raises:
        DataError: The package is not installed.
    """
    packaged = PACKAGED[config.source]
    path, side = packaged.path(), packaged.side
    table = np.loadtxt(path, delimiter=",", dtype=np.float32)
    pixels = np.round(table[:, :-1] * (255 / packaged.white)).astype(np.uint8)
    pixels = pixels.reshape(-1, 1, side, side)
    labels = table[:, -1].astype(np.int64)
    train, val = stratified_split(labels)
    splits = {
        "train": ArrayImages(pixels[train], labels[train], f"{path.name} (training part)"),
        "val": ArrayImages(pixels[val], labels[val], f"{path.name} (validation part)"),
    }
    return [str(label) for label in np.unique(labels)], splits, files.sha256(path)


def stratified_split(
    labels: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices of two parts: a fixed random fifth of each class is for validation."""
    generator = np.random.default_rng(SPLIT_SEED)
    train, val = [], []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        cut = round(len(members) / 5)
        val.append(members[:cut])
        train.append(members[cut:])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(val))
