"""IDX files, the format of MNIST: {train,t10k}-images-idx3-ubyte and -labels-idx1-ubyte, or .gz.

Format: http://yann.lecun.com/exdb/mnist: two zero bytes, the type of a value, the number of
dimensions, the size of each as a big-endian 32-bit integer, then the values.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from antioversmooth.config import DataConfig
from antioversmooth.datasets.images import ArrayImages
from antioversmooth.datasets.missing import missing_data
from antioversmooth.errors import DataError

PREFIXES = {"train": "train", "val": "t10k"}
"""Beginnings of the file names, where `data.train` and `data.val` give no others."""
SUBSET_SEED = 0
"""Seed of the choice of a part of the images, the same for every run."""
_BYTE = 8


def read_splits(config: DataConfig) -> tuple[list[str], dict[str, ArrayImages], str]:
    """Classes, the splits, and a sha256 over the content of the four files.

    The classes are the labels that occur. Where the spec has fewer images than a file, the split is
    a stratified part of it; see `stratified_subset`.

    Raises:
        DataError: A file is missing, damaged, there both plain and compressed, or does not hold
            grey images or their labels.
    """
    digest = hashlib.sha256()
    content = {}
    for split, prefix in PREFIXES.items():
        name = getattr(config, split) or prefix
        pixels, source = _read(config, f"{name}-images-idx3-ubyte", 3, digest)
        labels, of_labels = _read(config, f"{name}-labels-idx1-ubyte", 1, digest)
        if len(labels) != len(pixels):
            raise DataError(
                f"{of_labels} has {len(labels):,} labels, {source} has {len(pixels):,} images"
            )
        content[split] = pixels[:, None], labels, str(source)
    found = np.unique(np.concatenate([labels for _, labels, _ in content.values()]))
    wanted = {"train": config.num_train, "val": config.num_val}
    splits = {}
    for split, (pixels, labels, name) in content.items():
        numbers = np.searchsorted(found, labels)
        chosen = stratified_subset(numbers, wanted[split])
        splits[split] = ArrayImages(pixels[chosen], numbers[chosen], name, len(numbers))
    return [str(label) for label in found], splits, digest.hexdigest()


def stratified_subset(labels: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Indices, in ascending order, of `count` images, or of all where there are no more.

    Each class has its share of them, up to rounding; which images of a class is random, by a fixed
    seed. A smaller subset is a part of every larger one.

    Args:
        labels: Class of each image.
    """
    mixed = np.random.default_rng(SUBSET_SEED).permutation(len(labels))
    by_class = mixed[np.argsort(labels[mixed], kind="stable")]
    sizes = np.bincount(labels)
    starts = np.cumsum(sizes) - sizes
    # the rank of an image within its class, as a share of the class
    rank = np.arange(len(labels)) - starts[labels[by_class]]
    share = (rank + 0.5) / sizes[labels[by_class]]
    return np.sort(by_class[np.argsort(share, kind="stable")[:count]])


def _read(
    config: DataConfig, name: str, dimensions: int, digest: hashlib._Hash
) -> tuple[npt.NDArray[np.uint8], Path]:
    """The array of a file, and its path; adds its content to the digest."""
    path = _find(config, name)
    content = _content(path)
    header = 4 + 4 * dimensions
    if len(content) < header or content[:2] != b"\0\0":
        raise DataError(f"{path} is not an IDX file: it does not begin with the header of one")
    if content[2] != _BYTE:
        raise DataError(
            f"{path} holds values of type {content[2]:#04x}; images and labels are unsigned bytes,"
            f" {_BYTE:#04x}"
        )
    if content[3] != dimensions:
        what = "grey images have 3" if dimensions == 3 else "labels have 1"
        raise DataError(f"{path} has {content[3]} dimensions; {what}")
    shape = tuple(np.frombuffer(content, ">u4", dimensions, offset=4).tolist())
    if len(content) - header != math.prod(shape):
        raise DataError(
            f"{path} is torn or not one file: its header says {' x '.join(map(str, shape))} bytes,"
            f" {len(content) - header:,} follow"
        )
    digest.update(content)
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape), path


def _find(config: DataConfig, name: str) -> Path:
    folder = Path(config.root or "")
    found = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
    if not found:
        raise missing_data(config, f"there is no file {folder / name}, nor {name}.gz")
    if len(found) > 1:
        raise DataError(
            f"data.root: {folder} has both {name} and {name}.gz, which may differ; move one of them"
            " out of the folder"
        )
    return found[0]


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as err:
        raise DataError(f"{path} is a damaged gzip file ({err})") from err
