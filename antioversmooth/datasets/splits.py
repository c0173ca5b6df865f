"""Checks of the two splits of a data set against its classes and each other."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from antioversmooth.config import DataConfig
from antioversmooth.datasets.images import ArrayImages, FileImages, Images
from antioversmooth.datasets.layouts.huggingface import (
    TableImages,
    shared_rows,
    stratified_halves,
)
from antioversmooth.errors import DataError, and_more

KINDS = {"train": "training", "val": "validation"}
"""Adjectives of the splits, for messages."""


def check_every_class(
    config: DataConfig, classes: Sequence[str], splits: Mapping[str, Images], note: str
) -> None:
    """Raises DataError where a class has no training image, or no validation image.

    Args:
        note: Ends the message: what is passed over.
    """
    for split, images in splits.items():
        counts = np.bincount(images.labels, minlength=len(classes))
        empty = [classes[label] for label in np.flatnonzero(counts == 0).tolist()]
        if empty:
            raise DataError(
                f"{config.root}: no {KINDS[split]} image of {len(empty)} class(es):"
                f" {and_more(empty, 5)}{_part(config, split, images)}{note}"
            )


def _part(config: DataConfig, split: str, images: Images) -> str:
    """Advice where the split is a part of its file, which may have images of the class."""
    place = getattr(config, split) or ""
    if isinstance(images, TableImages) and "[" in place:
        whole = f"datasets.load_dataset({config.root!r}, split={place.partition('[')[0]!r})"
        return (
            f"; {place} is a part of rows that may be sorted by class; in Python, split them with a"
            f" share of each class: {stratified_halves(whole, config.label)}"
        )
    if not isinstance(images, ArrayImages) or images.of <= len(images.labels):
        return ""
    return (
        f"; data.num_{split}={len(images.labels)} of the {images.of:,} in {images.source} are too"
        " few for one of each class"
    )


def check_no_image_in_both(config: DataConfig, train: Images, val: Images) -> None:
    """Raises DataError where the training images, or some of them, are validation images."""
    if shared := _shared(train, val):
        raise DataError(
            f"{config.root}: training and validation images are the same ({shared}): validation"
            " would measure what was trained on; name two different places with data.train,"
            " data.val"
        )


def _shared(train: Images, val: Images) -> str:
    """A file that holds images of both splits, or rows of both; empty where there are none."""
    if isinstance(train, FileImages) and isinstance(val, FileImages):
        if not train.archives and os.path.realpath(train.root) != os.path.realpath(val.root):
            # without a list of a million names
            return ""
        theirs = set(_files(train))
        return next((file for file in _files(val) if file in theirs), "")
    if isinstance(train, TableImages) and isinstance(val, TableImages):
        return val.source if train.fingerprint == val.fingerprint else shared_rows(train, val)
    if isinstance(train, ArrayImages) and isinstance(val, ArrayImages):
        same = os.path.realpath(train.source) == os.path.realpath(val.source)
        return val.source if same else ""
    return ""


def _files(images: FileImages) -> list[str]:
    """The archives of the images, links followed, or the files of the images themselves."""
    if images.archives:
        return [os.path.realpath(images.root / name) for name in images.archives]
    root = os.path.realpath(images.root)
    return [os.path.join(root, os.fsdecode(name)) for name in images.names.tolist()]
