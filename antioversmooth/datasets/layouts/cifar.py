"""CIFAR-100 as torchvision unpacks it: root/cifar-100-python/{train,test,meta}."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from antioversmooth import files
from antioversmooth.config import DataConfig
from antioversmooth.datasets.images import ArrayImages
from antioversmooth.datasets.missing import missing_data
from antioversmooth.errors import DataError

FILES = {"train": "train", "val": "test"}


class _Unpickler(pickle.Unpickler):
    """Reads lists and arrays, which CIFAR's files consist of; refuses anything that could run."""

    def find_class(self, module: str, name: str) -> Any:
        # protocol 2 stores bytes through this function
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        if module.partition(".")[0] == "numpy" and name in ("_reconstruct", "ndarray", "dtype"):
            # The files name NumPy 1's module, which warns when NumPy 2 imports it.
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def read_splits(config: DataConfig) -> tuple[list[str], dict[str, ArrayImages], str]:
    """Classes, the splits, and a sha256 over both files.

    Raises:
        DataError: A file is missing, or is not a file of CIFAR-100.
    """
    kind = config.label or "fine"
    folder = Path(config.root or "") / "cifar-100-python"
    classes = [str(name) for name in _load(config, folder / "meta", f"{kind}_label_names")[0]]
    splits, checksums = {}, []
    for split, name in FILES.items():
        splits[split] = _images(
            folder / name, *_load(config, folder / name, "data", f"{kind}_labels")
        )
        checksums.append(files.sha256(folder / name))
    return classes, splits, hashlib.sha256(":".join(checksums).encode()).hexdigest()


def _images(path: Path, data: Any, labels: Any) -> ArrayImages:
    try:
        pixels = np.asarray(data, np.uint8).reshape(-1, 3, 32, 32)
        numbers = np.array(labels, np.int64)
    except (ValueError, TypeError, OverflowError) as err:
        raise DataError(f"{path} is not a file of CIFAR-100 ({err})") from err
    if numbers.shape != pixels.shape[:1]:
        raise DataError(
            f"{path} is not a file of CIFAR-100 ({len(pixels)} images, labels of shape"
            f" {numbers.shape})"
        )
    return ArrayImages(pixels, numbers, str(path))


def _load(config: DataConfig, path: Path, *keys: str) -> list[Any]:
    if not path.is_file():
        raise missing_data(config, f"there is no file {path}")
    try:
        with path.open("rb") as file:
            content = _Unpickler(file, encoding="latin1").load()
        return [content[key] for key in keys]
    except MemoryError:
        raise
    except Exception as err:
        # a damaged pickle asks for modules, attributes and numbers of any kind
        raise DataError(f"{path} is not a file of CIFAR-100 ({err})") from err
