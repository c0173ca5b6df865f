"""The images of the layout that a spec names, held against what the spec says of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from antioversmooth import files
from antioversmooth.config import DataConfig, DataSource
from antioversmooth.datasets import cache
from antioversmooth.datasets.images import Encoded, Stored, packed
from antioversmooth.datasets.layouts import cifar, folder, huggingface, inaturalist, tar, webdataset
from antioversmooth.datasets.layouts.cifar import Pixels
from antioversmooth.datasets.layouts.packaged import PACKAGED
from antioversmooth.datasets.missing import missing
from antioversmooth.errors import DataError

Images = Encoded | Pixels
SPLITS = ("train", "val")


@dataclass(frozen=True)
class Listing:
    """Both splits of a data set, without an image opened."""

    classes: Sequence[str]
    """Name of each class, by its number."""
    train: Images
    val: Images
    fingerprint: str
    """sha256 over what is cheap to look at: names, classes and, where the layout lists them, sizes
    of all images; of sets that are one or two files, over their content."""

    def facts(self) -> dict[str, int | str]:
        """Counts and fingerprint, under the keys that a spec has for them."""
        return {
            "num_classes": len(self.classes),
            "num_train": len(self.train.labels),
            "num_val": len(self.val.labels),
            "fingerprint": self.fingerprint,
        }


SAMPLED = 256
"""Images of each split that are read to tell a data set from another one of the same names and
sizes."""


def sample(*splits: Images) -> str:
    """sha256 over the bytes of a few images, evenly spread over each split; none where the
    fingerprint is over content.

    Of an image folder the fingerprint knows names alone, since to ask for the sizes of a million
    files takes minutes.
    """
    digest, encoded = hashlib.sha256(), [split for split in splits if not isinstance(split, Pixels)]
    for images in encoded:
        for index in np.linspace(
            0, len(images.labels) - 1, min(SAMPLED, len(images.labels)), dtype=int
        ).tolist():
            # one that cannot be read is `data.max_corrupt`'s to judge
            with suppress(OSError):
                digest.update(images.read(index))
    return digest.hexdigest() if encoded else ""


Scan = Callable[[DataConfig, str], tuple[list[str], Stored, list[Path]]]
SCANS: dict[DataSource, Scan] = {
    DataSource.image_folder: folder.scan,
    DataSource.tar: tar.scan,
    DataSource.webdataset: webdataset.scan,
    DataSource.inaturalist: inaturalist.scan,
}
"""Layouts of which one split is listed at a time, as `Stored` images."""


def listed(config: DataConfig) -> Listing:
    """What lies at `data.root`, which is what the spec says.

    Raises:
        DataError: Nothing that the layout asks for, or not what the spec says: other counts,
            classes or content.
    """
    found = listed_as_is(config)
    check(config, found.facts())
    return found


def listed_as_is(config: DataConfig) -> Listing:
    """What lies at `data.root`, whatever counts and fingerprint the spec expects.

    Raises:
        DataError: Nothing that the layout asks for, or a class without images.
    """
    _check_root(config)
    try:
        found = _found(config)
    except OSError as err:
        # no permission, a file system that has gone
        raise DataError(
            f"data.root: {err.filename or config.root} cannot be read ({err.strerror or err})"
        ) from err
    _check_labels(config, found)
    return found


def _found(config: DataConfig) -> Listing:
    if config.source in SCANS:
        return _scanned(config, SCANS[config.source])
    read = cifar.read if config.source is DataSource.cifar100 else huggingface.read
    classes, splits, fingerprint = read(config)
    return Listing(classes, splits["train"], splits["val"], fingerprint)


def facts(config: DataConfig) -> dict[str, int | str]:
    """What a spec can say of the data, as it is found: counts and fingerprint under the spec's own
    keys.

    Raises:
        DataError: As `listed_as_is`.
    """
    if config.source in PACKAGED:
        path = PACKAGED[config.source].path()
        return {"name": config.name, "root": str(path), "fingerprint": files.sha256(path)}
    return {"name": config.name, "root": str(config.root), **listed_as_is(config).facts()}


def check(config: DataConfig, found: Mapping[str, int | str]) -> None:
    """Raises DataError where counts or fingerprint are not what the spec says."""
    where = f" under {config.root}" if config.root else ""
    if found.get("num_classes", 2) == 1:
        raise DataError(
            f"{config.name}{where} has a single class: there is nothing to tell apart; is it all"
            " of it?"
        )
    expected = [
        "num_classes",
        "num_train",
        "num_val",
        *(["fingerprint"] if config.fingerprint else []),
    ]
    for key in (key for key in expected if key in found):
        if found[key] != getattr(config, key):
            raise DataError(
                f"data.{key}: the spec says {getattr(config, key)!r}, {config.name}{where} has"
                f" {found[key]!r}; if that is the data you mean, say so with"
                f" data.{key}={found[key]} (it makes it another run)"
            )


def _check_labels(config: DataConfig, found: Listing) -> None:
    for split, images in zip(SPLITS, (found.train, found.val), strict=True):
        if not len(images.labels):
            raise DataError(f"{config.root}: {split} has no image")
    counts = np.bincount(found.train.labels, minlength=len(found.classes))
    empty = [found.classes[label] for label in np.flatnonzero(counts == 0).tolist()]
    if empty:
        raise DataError(
            f"{config.root}: no training image of {len(empty)} class(es): {', '.join(empty[:5])}"
        )
    if found.val.labels.max() >= len(found.classes):
        raise DataError(
            f"{config.root}: a validation image has label {found.val.labels.max()}, classes are 0"
            f" to {len(found.classes) - 1}"
        )


def _check_root(config: DataConfig) -> None:
    if not config.root:
        raise missing(config, f"{config.name} has no folder")
    if not Path(config.root).is_dir():
        raise missing(config, f"there is no folder {config.root}")


def _scanned(config: DataConfig, scan: Scan) -> Listing:
    root = Path(config.root or "")
    key = {"root": str(root.resolve()), "source": config.source.value, "label": config.label}
    key |= {"train": config.train, "val": config.val}
    found = cache.kept(key, lambda: _scan(config, scan))
    classes = [os.fsdecode(name) for name in found["classes"].tolist()]
    train, val = (_stored(root, found, split) for split in SPLITS)
    return Listing(classes, train, val, str(found["fingerprint"]))


def _scan(config: DataConfig, scan: Scan) -> tuple[cache.Arrays, list[Path]]:
    """The arrays that both splits are made of, and what tells whether they have changed."""
    (classes, train, looked_at), (val_classes, val, looked_at_too) = (
        scan(config, split) for split in SPLITS
    )
    if classes != val_classes:
        differing = sorted(set(classes) ^ set(val_classes))
        raise DataError(
            f"{config.root}: train and val hold different classes: {', '.join(differing[:5])}, ..."
        )
    arrays: cache.Arrays = {
        "classes": packed(classes),
        "fingerprint": np.array(_fingerprint(config, train, val)),
    }
    for split, images in zip(SPLITS, (train, val), strict=True):
        parts = {"names": images.names, "labels": images.labels, "places": images.places}
        parts |= {
            "archives": packed(images.archives),
            "root": np.array(os.path.relpath(images.root, config.root)),
        }
        arrays |= {f"{split}_{name}": part for name, part in parts.items()}
    return arrays, [*looked_at, *looked_at_too]


def _stored(root: Path, found: cache.Arrays, split: str) -> Stored:
    archives = tuple(os.fsdecode(name) for name in found[f"{split}_archives"].tolist())
    names, labels, places = (found[f"{split}_{part}"] for part in ("names", "labels", "places"))
    return Stored(root / str(found[f"{split}_root"]), names, labels, archives, places)


def _fingerprint(config: DataConfig, *splits: Stored) -> str:
    """Over the names of all images; where these do not tell the class, over classes, and over sizes
    that are known."""
    names = hashlib.sha256()
    for images in splits:
        names.update(b"\n".join(images.names.tolist()))
        if config.source is not DataSource.image_folder:
            names.update(images.labels.tobytes() + images.places[:, 2].tobytes())
    return names.hexdigest()
