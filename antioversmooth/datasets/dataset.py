"""The data set that a spec names, checked against the counts and the fingerprint in the spec."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from antioversmooth.config import DataConfig, DataSource
from antioversmooth.datasets import cache
from antioversmooth.datasets.chosen_classes import images_of_classes
from antioversmooth.datasets.classes import classes_checksum
from antioversmooth.datasets.facts import Facts, check_facts
from antioversmooth.datasets.images import ArrayImages, FileImages, Images, encode_names
from antioversmooth.datasets.layouts import (
    cifar,
    folder,
    huggingface,
    idx,
    inaturalist,
    tar,
    text_table,
    webdataset,
)
from antioversmooth.datasets.layouts.packaged import PACKAGED
from antioversmooth.datasets.missing import missing_data
from antioversmooth.datasets.passed_over import PassedOver
from antioversmooth.datasets.splits import KINDS, check_every_class, check_no_image_in_both
from antioversmooth.errors import DataError

SPLITS = ("train", "val")
NUM_SAMPLED = 256
"""Images of each split that `ImageDataset.sample_checksum` reads."""


@dataclass(frozen=True)
class ValidationSet:
    """The images that weights are evaluated on, with no image decoded."""

    classes: Sequence[str]
    """Name of each class, by its number."""
    images: Images
    fingerprint: str
    """As that of an `ImageDataset`, over the splits that were read."""

    @property
    def passed_over(self) -> PassedOver:
        """Contents of the split that are none of its images."""
        return _passed_over(self.images)


@dataclass(frozen=True)
class ImageDataset:
    """Both splits of a data set, with no image decoded."""

    classes: Sequence[str]
    """Name of each class, by its number."""
    train: Images
    val: Images
    fingerprint: str
    """sha256 over what is cheap to read: names, classes and, where the layout lists them, the sizes
    of all images; for data sets of one or two files, over their content."""

    @property
    def validation(self) -> ValidationSet:
        """The validation split."""
        return ValidationSet(self.classes, self.val, self.fingerprint)

    @property
    def passed_over(self) -> PassedOver:
        """Contents of both splits that are none of their images."""
        return _passed_over(self.train, self.val)

    @property
    def subset(self) -> str:
        """The parts of their files that the splits are, as a clause; empty where they are all."""
        parts = {"training": self.train, "validation": self.val}
        clauses = [
            f"{len(images.labels):,} of {images.of:,} {kind} images"
            for kind, images in parts.items()
            if isinstance(images, ArrayImages) and images.of > len(images.labels)
        ]
        return f"{' and '.join(clauses)}, stratified by class" if clauses else ""

    def summary(self) -> str:
        """Counts of images, classes and of what is passed over, in one line."""
        return (
            f"{len(self.train.labels):,} training and {len(self.val.labels):,} validation images of"
            f" {len(self.classes):,} classes{self.passed_over.note()}"
            f"{f' ({self.subset})' if self.subset else ''}"
        )

    def counts(self) -> dict[str, int]:
        """Numbers of classes and images, under the names of the spec's fields."""
        return {
            "num_classes": len(self.classes),
            "num_train": len(self.train.labels),
            "num_val": len(self.val.labels),
        }

    def facts(self) -> Facts:
        """Counts and fingerprint, under the names of the spec's fields, and what is passed over."""
        facts: Facts = {**self.counts(), "fingerprint": self.fingerprint}
        if self.subset:
            facts["subset"] = self.subset
        return {**facts, "passed_over": self.passed_over} if self.passed_over else facts

    def checksums(self) -> dict[str, str]:
        """Checksums that distinguish this data set from others; reads a few images."""
        found = {
            "fingerprint": self.fingerprint,
            "sample": self.sample_checksum(),
            "classes": classes_checksum(self.classes),
        }
        return {key: value for key, value in found.items() if value}

    def sample_checksum(self) -> str:
        """sha256 over the bytes of a few images, evenly spread over each split; empty for arrays.

        The fingerprint of arrays covers their content. That of an image folder covers names only:
        reading the sizes of a million files takes minutes.
        """
        digest = hashlib.sha256()
        encoded = [split for split in (self.train, self.val) if not isinstance(split, ArrayImages)]
        for images in encoded:
            count = len(images.labels)
            for index in np.linspace(0, count - 1, min(NUM_SAMPLED, count), dtype=int).tolist():
                # `data.max_corrupt` decides about an image that cannot be read
                with suppress(OSError):
                    digest.update(images.read(index))
        return digest.hexdigest() if encoded else ""


def _passed_over(*splits: Images) -> PassedOver:
    found = PassedOver()
    for images in splits:
        if isinstance(images, FileImages):
            found.add_all(images.passed_over)
    return found


def open_dataset(config: DataConfig) -> ImageDataset:
    """The data set of a spec.

    Raises:
        DataError: It is missing, or its counts, classes or content differ from the spec's.
    """
    dataset = open_unchecked(config)
    check_facts(config, dataset.facts())
    return dataset


def open_unchecked(config: DataConfig, *, anew: bool = False) -> ImageDataset:
    """The data set of a spec, whatever counts and fingerprint the spec expects.

    Args:
        anew: Whether to list it again although its listing is cached.

    Raises:
        DataError: It is missing, a split has no image of a class, or both have the same image.
    """
    classes, splits, fingerprint = _open(config, SPLITS, anew=anew)
    dataset = ImageDataset(classes, splits["train"], splits["val"], fingerprint)
    check_every_class(config, classes, splits, dataset.passed_over.note())
    check_no_image_in_both(config, dataset.train, dataset.val)
    return dataset


def open_validation(config: DataConfig) -> ValidationSet:
    """The validation split of a spec's data set, which may be all that is there.

    Counts and fingerprint of the spec do not matter.

    Raises:
        DataError: It is missing, or has no image.
    """
    classes, splits, fingerprint = _open(config, ("val",))
    return ValidationSet(classes, splits["val"], fingerprint)


def cached_checksums(config: DataConfig) -> dict[str, str] | None:
    """Fingerprint and checksum of the classes by the cached listing; None where there is none."""
    listed = ("fingerprint", "classes")
    arrays = cache.read(_key(config, SPLITS), listed) if config.source in SCANS else None
    if arrays is None:
        return None
    classes = [os.fsdecode(name) for name in arrays["classes"].tolist()]
    return {"fingerprint": str(arrays["fingerprint"]), "classes": classes_checksum(classes)}


def dataset_facts(config: DataConfig, *, anew: bool = False) -> Facts:
    """Name, root, counts and fingerprint of the data set, under the names of the spec's fields.

    Args:
        anew: Whether to list it again although its listing is cached.

    Raises:
        DataError: As `open_unchecked`.
    """
    if config.source in PACKAGED:
        packaged = PACKAGED[config.source]
        return {"name": config.name, "root": str(packaged.path()), **packaged.facts()}
    facts = open_unchecked(config, anew=anew).facts()
    return {"name": config.name, "root": str(config.root), **facts}


def _check_labels(config: DataConfig, split: str, images: Images, num_classes: int) -> None:
    if not len(images.labels):
        raise DataError(f"{config.root}: {split} has no image")
    for label in (images.labels.min(), images.labels.max()):
        if not 0 <= label < num_classes:
            raise DataError(
                f"{config.root}: a {KINDS[split]} image has label {label}, classes are 0 to"
                f" {num_classes - 1}"
            )


# -- layouts ---------------------------------------------------------------------------------------

Scan = Callable[[DataConfig, str], tuple[list[str], FileImages, list[Path]]]
SCANS: dict[DataSource, Scan] = {
    DataSource.image_folder: folder.scan_split,
    DataSource.tar: tar.scan_split,
    DataSource.webdataset: webdataset.scan_split,
    DataSource.inaturalist: inaturalist.scan_split,
}
"""Layouts whose images are listed split by split; the listings are cached."""

Splits = tuple[Sequence[str], Mapping[str, Images], str]
"""Classes, images of each split, and the fingerprint."""


def _open(config: DataConfig, splits: Sequence[str], *, anew: bool = False) -> Splits:
    """The splits; of a layout that is read as a whole, all of them."""
    try:
        found = _read(config, splits, anew)
    except OSError as err:
        # no permission, or a file system that is gone
        raise DataError(
            f"data.root: {err.filename or config.root} cannot be read ({err.strerror or err})"
        ) from err
    for split in splits:
        _check_labels(config, split, found[1][split], len(found[0]))
    return found


def _read(config: DataConfig, splits: Sequence[str], anew: bool) -> Splits:
    if config.source in PACKAGED:
        return text_table.read_splits(config)
    if not config.root:
        raise missing_data(config, f"{config.name} has no folder")
    if Path(config.root).is_file():
        raise DataError(
            f"data.root: {config.root} is a file, and a folder belongs here; unpack a zip file; a"
            " tar file is read in place: data=imagenet_tar, data.root=FOLDER and data.train,"
            " data.val for the names of the files in FOLDER"
        )
    if not Path(config.root).is_dir():
        raise missing_data(config, f"there is no folder {config.root}")
    if config.source is DataSource.cifar100:
        return cifar.read_splits(config)
    if config.source is DataSource.idx:
        return idx.read_splits(config)
    if config.source is DataSource.huggingface:
        return huggingface.read_splits(config)
    arrays = cache.cached(_key(config, splits), lambda: _scan(config, splits), anew=anew)
    classes = [os.fsdecode(name) for name in arrays["classes"].tolist()]
    images = {split: _file_images(Path(config.root), arrays, split) for split in splits}
    return classes, images, str(arrays["fingerprint"])


def _key(config: DataConfig, splits: Sequence[str]) -> dict[str, str | None]:
    """The key of the listing of some splits in the cache."""
    root = str(Path(config.root or "").resolve())
    places = {split: getattr(config, split) for split in splits}
    chosen = {"classes": json.dumps(config.classes)} if config.classes else {}
    return {"root": root, "source": config.source.value, "label": config.label, **places, **chosen}


def _chosen(
    config: DataConfig, classes: list[str], images: FileImages, depends_on: list[Path]
) -> tuple[list[str], FileImages, list[Path]]:
    """The part of a listing that is of the classes that the spec names."""
    if config.classes:
        classes, images = images_of_classes(config, classes, images)
    return classes, images, depends_on


def _scan(config: DataConfig, splits: Sequence[str]) -> tuple[cache.Arrays, list[Path]]:
    """Arrays of the splits for the cache, and the paths whose time stamps show a change."""
    scanned = {split: _chosen(config, *SCANS[config.source](config, split)) for split in splits}
    classes = scanned["val"][0]
    images = {split: scanned[split][1] for split in splits}
    if config.source is DataSource.image_folder:
        for names, listed, _ in scanned.values():
            folder.require_images(names, listed)
    _check_same_classes(config, {split: found[0] for split, found in scanned.items()}, images)
    arrays: cache.Arrays = {
        "classes": encode_names(classes),
        "fingerprint": np.array(_fingerprint(config, *images.values())),
    }
    for split, listed in images.items():
        parts = {"names": listed.names, "labels": listed.labels, "places": listed.ranges}
        parts["archives"] = encode_names(listed.archives)
        parts["root"] = np.array(os.path.relpath(listed.root, config.root))
        parts["passed_over"] = np.array(json.dumps(listed.passed_over))
        arrays |= {f"{split}_{name}": part for name, part in parts.items()}
    return arrays, [path for split in splits for path in scanned[split][2]]


def _check_same_classes(
    config: DataConfig, classes: Mapping[str, list[str]], images: Mapping[str, FileImages]
) -> None:
    """Raises DataError where a class is in one split alone."""
    only = []
    for split, names in classes.items():
        others = set().union(*(found for other, found in classes.items() if other != split))
        if alone := [name for name in names if name not in others]:
            more = f" and {len(alone) - 5} more" if len(alone) > 5 else ""
            only.append(f"only {split} has {', '.join(alone[:5])}{more}")
    if only and len(classes) > 1:
        passed = PassedOver()
        for listed in images.values():
            passed.add_all(listed.passed_over)
        raise DataError(
            f"{config.root}: train and val hold different classes: {'; '.join(only)}{passed.note()}"
        )


def _file_images(root: Path, arrays: cache.Arrays, split: str) -> FileImages:
    archives = tuple(os.fsdecode(name) for name in arrays[f"{split}_archives"].tolist())
    names, labels, ranges = (arrays[f"{split}_{part}"] for part in ("names", "labels", "places"))
    passed = PassedOver(json.loads(str(arrays[f"{split}_passed_over"])))
    return FileImages(root / str(arrays[f"{split}_root"]), names, labels, archives, ranges, passed)


def _fingerprint(config: DataConfig, *splits: FileImages) -> str:
    """sha256 over all names; over labels and known sizes too where names do not tell the class."""
    digest = hashlib.sha256()
    for images in splits:
        digest.update(b"\n".join(images.names.tolist()))
        if config.source is not DataSource.image_folder:
            digest.update(images.labels.tobytes() + images.ranges[:, 2].tobytes())
    return digest.hexdigest()
