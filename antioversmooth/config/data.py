"""The data part of a spec."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from antioversmooth.config.checks import MISSING, Require, absolute, off_identity, rules


class DataSource(Enum):
    """How the images are stored."""

    image_folder = "image_folder"
    tar = "tar"
    webdataset = "webdataset"
    huggingface = "huggingface"
    cifar100 = "cifar100"
    inaturalist = "inaturalist"
    mnist5k = "mnist5k"
    digits = "digits"


@dataclass
class DataConfig:
    """A data set, and what the run must find when it opens it."""

    name: str = MISSING
    """For titles and captions: ImageNet-1k, MNIST-5k, ..."""
    source: DataSource = MISSING
    """image_folder: `root`/train/<class>/*, `root`/val/<class>/*. tar: the same inside tar files.
    webdataset: shards. huggingface: a data set of that library. cifar100, inaturalist: as
    downloaded. mnist5k, digits: files inside installed packages. docs/data.md has each layout."""
    root: str | None = off_identity(None)
    """Folder of the data; ``${oc.env:IMAGENET,null}`` in the shipped spec."""
    num_classes: int = MISSING
    """Classes; checked against the data when a run starts."""
    num_train: int = MISSING
    """Training images; checked against the data when a run starts."""
    num_val: int = MISSING
    """Validation images; checked against the data when a run starts."""
    in_channels: int = 3
    """Channels of an image."""
    mean: list[float] = field(default_factory=lambda: [0.485, 0.456, 0.406])
    """Per channel, on a 0..1 scale; subtracted."""
    std: list[float] = field(default_factory=lambda: [0.229, 0.224, 0.225])
    """Per channel, on a 0..1 scale; divided by."""
    fingerprint: str = ""
    """sha256 over what the source holds, where the source is one fixed file; empty: the three
    counts stand for it."""
    max_corrupt: int = off_identity(0)
    """Unreadable images that a run may replace by their neighbour (each one named in the journal)
    before it ends."""
    train: str | None = off_identity(None)
    """Where in `root` the training images are: folder (image_folder), tar file or folder of them
    (tar), shards, as name-{000..127}.tar (webdataset), split (huggingface), annotations
    (inaturalist); null: by the layout's own name."""
    val: str | None = off_identity(None)
    """The same for the validation images."""
    label: str | None = field(default=None, metadata={"neutral": None})
    """What tells the class where a layout has several: column (huggingface; null: label), field of
    key.json (webdataset; null: key.cls), taxonomic level (inaturalist; null: name), fine or coarse
    (cifar100; null: fine)."""

    on_nodes_only: bool = off_identity(False)
    """Whether `root` is not there where runs are launched, only on the nodes: then the runs check
    it as they start."""

    def __post_init__(self) -> None:
        self.root = absolute(self.root) if self.root else None
        with rules() as require:
            require(
                self.num_classes > 1, "data.num_classes", self.num_classes, "at least two classes"
            )
            require(self.num_train >= 0, "data.num_train", self.num_train, "0 or more images")
            require(self.num_val > 0, "data.num_val", self.num_val, "at least one image")
            require(
                self.in_channels in (1, 3),
                "data.in_channels",
                self.in_channels,
                "1 (grey) or 3 (RGB)",
            )
            require(
                all(value > 0 for value in self.std), "data.std", list(self.std), "numbers above 0"
            )
            require(self.max_corrupt >= 0, "data.max_corrupt", self.max_corrupt, "0 or more images")
            self._require_fitting_places(require)
            for key in ("mean", "std"):
                require(
                    len(getattr(self, key)) == self.in_channels,
                    f"data.{key}",
                    list(getattr(self, key)),
                    f"one number for each of data.in_channels = {self.in_channels}",
                )

    def _require_fitting_places(self, require: Require) -> None:
        """Nothing is set that the source would not look at."""
        source, labels = self.source, _LABELS.get(self.source, ())
        right = f"null, since data.source={source.value} has no choice of labels"
        right = f"one of {', '.join(labels)}" if labels and labels != ("*",) else right
        fits = self.label is None or self.label in labels or labels == ("*",)
        require(fits, "data.label", self.label, right)
        inside = source in (DataSource.mnist5k, DataSource.digits)
        right = (
            f"null, since {self.name} (data.source={source.value}) is a file of an installed"
            " package; to train on images of your own, leave profile=mini out, or choose a layout"
            " with data=imagenet"
        )
        require(self.root is None or not inside, "data.root", self.root, right)
        fixed = {DataSource.mnist5k, DataSource.digits, DataSource.cifar100}
        for key in ("train", "val"):
            right = f"null, since data.source={source.value} names its files itself"
            require(
                getattr(self, key) is None or source not in fixed,
                f"data.{key}",
                getattr(self, key),
                right,
            )


_LABELS: dict[DataSource, tuple[str, ...]] = {
    DataSource.webdataset: ("*",),
    DataSource.huggingface: ("*",),
    DataSource.cifar100: ("fine", "coarse"),
    DataSource.inaturalist: (
        "kingdom",
        "phylum",
        "class",
        "order",
        "supercategory",
        "family",
        "genus",
        "name",
    ),
}
"""What `data.label` may be; * is anything."""
