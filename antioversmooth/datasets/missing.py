"""The error for data that is not there, with the ways to fix it."""

from __future__ import annotations

import re

from antioversmooth.config import DataConfig, DataSource
from antioversmooth.errors import DataError

LAYOUTS = {
    DataSource.image_folder: "train/<class>/ and val/<class>/",
    DataSource.tar: "train.tar and val.tar, or train/*.tar and val/*.tar",
    DataSource.webdataset: "the shards *train*.tar and *val*.tar",
    DataSource.huggingface: "what save_to_disk wrote, or load_dataset reads",
    DataSource.cifar100: "cifar-100-python/",
    DataSource.inaturalist: "train<year>.json, val<year>.json and categories.json",
    DataSource.idx: "train-images-idx3-ubyte, train-labels-idx1-ubyte and t10k-..., or .gz",
}
"""Content of `data.root`, by layout."""
VARIABLES = {
    DataSource.cifar100: "CIFAR100",
    DataSource.inaturalist: "INATURALIST",
    DataSource.idx: "FASHION_MNIST",
}
"""Environment variables that the shipped specs read `data.root` from; IMAGENET for all others."""
FASHION_MNIST = "Fashion-MNIST"
"""`data.name` of the set that `_DEBIAN` brings."""
_DEBIAN = (
    "on Debian and Ubuntu, apt-get install dataset-fashion-mnist brings Fashion-MNIST, and without"
    " root apt-get download dataset-fashion-mnist && dpkg-deb -x dataset-fashion-mnist_*.deb DIR"
    " puts it into DIR/usr/share/datasets/fashion-mnist; or "
)


def missing_data(config: DataConfig, problem: str) -> DataError:
    """The error, such as `data.root: there is no folder /path; set ...`."""
    variable, layout = VARIABLES.get(config.source, "IMAGENET"), LAYOUTS[config.source]
    if config.source is DataSource.idx:
        for usual, name in (("train", config.train), ("t10k", config.val)):
            layout = re.sub(rf"\b{usual}-", f"{name or usual}-", layout)
    packaged = _DEBIAN if config.name == FASHION_MNIST else ""
    return DataError(
        f"data.root: {problem}; {packaged}set {variable}=/path or data.root=/path (a folder with"
        f" {layout}), or add profile=mini for the small embedded data"
    )
