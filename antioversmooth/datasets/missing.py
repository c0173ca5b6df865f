"""What to say where data is not there, with the way out."""

from __future__ import annotations

from antioversmooth.config import DataConfig, DataSource
from antioversmooth.errors import DataError

LAYOUTS = {
    DataSource.image_folder: "train/<class>/ and val/<class>/",
    DataSource.tar: "train.tar and val.tar, or train/*.tar and val/*.tar",
    DataSource.webdataset: "the shards *train*.tar and *val*.tar",
    DataSource.huggingface: "what save_to_disk wrote, or load_dataset reads",
    DataSource.cifar100: "cifar-100-python/",
    DataSource.inaturalist: "train<year>.json, val<year>.json and categories.json",
}
"""What `data.root` holds."""
VARIABLES = {DataSource.cifar100: "CIFAR100", DataSource.inaturalist: "INATURALIST"}
"""What the shipped specs take `data.root` from; of all others IMAGENET."""


def missing(config: DataConfig, what: str) -> DataError:
    """The error for data that is not there: `data.root: there is no folder /path; set ...`."""
    variable, layout = VARIABLES.get(config.source, "IMAGENET"), LAYOUTS[config.source]
    return DataError(
        f"data.root: {what}; set {variable}=/path or data.root=/path (a folder with {layout}), or"
        " add profile=mini for the small embedded data"
    )
