"""CIFAR-100 as torchvision unpacks it: root/cifar-100-python/{train,test,meta}."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from antioversmooth import files
from antioversmooth.config import DataConfig
from antioversmooth.datasets.missing import missing
from antioversmooth.errors import DataError

FILES = {"train": "train", "val": "test"}


@dataclass(frozen=True)
class Pixels:
    """Decoded images of one size."""

    pixels: npt.NDArray[np.uint8]
    """Shape: [number of images, channels, height, width]."""
    labels: npt.NDArray[np.int64]
    source: str

    def name(self, index: int) -> str:
        return f"{self.source}[{index}]"


class _Unpickler(pickle.Unpickler):
    """Reads what CIFAR's files are made of, lists and arrays, and refuses anything that could
    run."""

    def find_class(self, module: str, name: str) -> Any:
        # how Python 3 writes bytes for Python 2
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        if module.partition(".")[0] == "numpy" and name in ("_reconstruct", "ndarray", "dtype"):
            # NumPy 1's module, which the files name, warns when it is imported from NumPy 2.
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def read(config: DataConfig) -> tuple[list[str], dict[str, Pixels], str]:
    """Classes, the splits, and a sha256 over both files.

    Raises:
        DataError: A file is missing, or is not CIFAR-100's.
    """
    kind = config.label or "fine"
    folder = Path(config.root or "") / "cifar-100-python"
    classes = [str(name) for name in _load(config, folder / "meta", f"{kind}_label_names")[0]]
    splits, sums = {}, []
    for split, name in FILES.items():
        data, labels = _load(config, folder / name, "data", f"{kind}_labels")
        pixels = np.asarray(data, np.uint8).reshape(-1, 3, 32, 32)
        splits[split] = Pixels(pixels, np.array(labels, np.int64), str(folder / name))
        sums.append(files.sha256(folder / name))
    return classes, splits, hashlib.sha256(":".join(sums).encode()).hexdigest()


def _load(config: DataConfig, path: Path, *keys: str) -> list[Any]:
    if not path.is_file():
        raise missing(config, f"there is no file {path}")
    try:
        with path.open("rb") as file:
            content = _Unpickler(file, encoding="latin1").load()
        return [content[key] for key in keys]
    except (
        pickle.UnpicklingError,
        EOFError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        IndexError,
    ) as err:
        raise DataError(f"{path} is no file of CIFAR-100's ({err})") from err
