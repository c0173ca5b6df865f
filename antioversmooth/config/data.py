"""The data part of a spec."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from antioversmooth.config.rules import Broken, Config, absolute, rule
from antioversmooth.constraints import MISSING, above, at_least, distinct, each, one_of, option


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
    idx = "idx"

    @property
    def in_memory(self) -> bool:
        """Whether the images are read as a whole, when a run starts."""
        return self in (
            DataSource.mnist5k,
            DataSource.digits,
            DataSource.cifar100,
            DataSource.idx,
        )


@dataclass
class DataConfig(Config, section="data"):
    """A data set, and the counts that a run checks when it opens it."""

    name: str = MISSING
    """For titles and captions: ImageNet-1k, MNIST-5k, ..."""
    source: DataSource = MISSING
    """image_folder: `root`/train/<class>/*, `root`/val/<class>/*. tar: the same inside tar files.
    webdataset: shards. huggingface: a data set of that library. cifar100, inaturalist: as
    downloaded. idx: the four files of MNIST. mnist5k, digits: files inside installed packages.
    docs/data.md has each layout."""
    root: str | None = option(None, identity=False, path=True)
    """Folder of the data; ``${oc.env:IMAGENET,null}`` in the shipped spec."""
    num_classes: int = option(MISSING, at_least(2))
    """Classes; checked against the data when a run starts."""
    num_train: int = option(MISSING, at_least(0))
    """Training images; checked against the data when a run starts. Of source idx, fewer than the
    file has are a part of it, stratified by class and the same for every run."""
    num_val: int = option(MISSING, at_least(1))
    """Validation images; the same."""
    in_channels: int = option(3, one_of(1, 3))
    """Channels of an image."""
    mean: list[float] = option([0.485, 0.456, 0.406])
    """Per channel, on a 0..1 scale; subtracted."""
    std: list[float] = option([0.229, 0.224, 0.225], each(above(0)))
    """Per channel, on a 0..1 scale; divided by."""
    fingerprint: str = ""
    """sha256 over what the source holds, where the source is one fixed file; empty: the three
    counts identify the data."""
    max_corrupt: int = option(0, at_least(0), identity=False)
    """Unreadable images that a run may replace by their neighbour (each one named in the journal)
    before it ends."""
    train: str | None = option(None, identity=False, path=True)
    """Where in `root` the training images are: folder (image_folder), tar file or folder of them
    (tar), shards, as name-{000..127}.tar (webdataset), split (huggingface), annotations
    (inaturalist), beginning of the file names (idx); null: by the layout's own name."""
    val: str | None = option(None, identity=False, path=True)
    """The same for the validation images."""
    label: str | None = option(
        None,
        identity=lambda data: data.label != _USUAL_LABELS.get(data.source),
        identity_default=None,
    )
    """The label to use where a layout has several: column (huggingface; null: label), field of
    key.json (webdataset; null: key.cls), taxonomic level (inaturalist; null: name), fine or coarse
    (cifar100; null: fine)."""
    classes: list[str] = option([], distinct("class"), identity_default=[])
    """Classes of the source that are the data set, by the names of their folders; empty: all. The
    images of others stay where they are, and are not used (image_folder, tar, webdataset,
    inaturalist)."""
    cache: int | None = option(
        None,
        at_least(32),
        acts_in=lambda experiment: experiment.recipe.epochs > 0,
        identity_default=None,
    )
    """Short side, in pixels, of training images that `data SPEC --build-cache` decoded and resized
    once; crops are cut out of these. Null: out of the images as they are."""
    cache_root: str | None = option(None, identity=False, path=True)
    """Folder of the caches of all data sets, for `cache`; fast and large, as a node's own disk."""
    on_nodes_only: bool = option(False, identity=False)
    """Whether `root` is not there where runs are launched, only on the nodes: then the runs check
    it as they start."""

    def normalise(self) -> None:
        self.root = absolute(self.root) if self.root else None
        self.cache_root = absolute(self.cache_root) if self.cache_root else None
        # their order has no meaning
        self.classes = sorted(self.classes)

    @rule("mean", "in_channels")
    def _mean_of_each_channel(self) -> Iterator[Broken]:
        yield from self._one_for_each_channel("mean", self.mean)

    @rule("std", "in_channels")
    def _std_of_each_channel(self) -> Iterator[Broken]:
        yield from self._one_for_each_channel("std", self.std)

    def _one_for_each_channel(self, key: str, values: list[float]) -> Iterator[Broken]:
        if len(values) != self.in_channels:
            expected = f"one number for each of data.in_channels = {self.in_channels}"
            yield Broken(key, values, expected, also=("in_channels",))

    @rule("label", "source")
    def _label_that_the_source_has(self) -> Iterator[Broken]:
        labels = _LABELS.get(self.source, ())
        if self.label is not None and self.label not in labels and labels != _ANY:
            none = f"null, since data.source={self.source.value} has no choice of labels"
            expected = f"one of {', '.join(labels)}" if labels else none
            yield Broken("label", self.label, expected, also=("source",))

    @rule("classes", "source")
    def _classes_that_a_listing_names(self) -> Iterator[Broken]:
        if self.classes and (self.source.in_memory or self.source is DataSource.huggingface):
            expected = f"empty: data.source={self.source.value} is used with all of its classes"
            yield Broken("classes", self.classes, expected, also=("source",))

    @rule("cache", "source")
    def _cache_of_image_files(self) -> Iterator[Broken]:
        if self.cache is not None and self.source.in_memory:
            expected = f"null: images of data.source={self.source.value} are decoded already"
            yield Broken("cache", self.cache, expected, also=("source",))

    @rule("cache_root", "cache")
    def _folder_of_the_cache(self) -> Iterator[Broken]:
        if self.cache is not None and self.cache_root is None:
            expected = "a folder, since data.cache is set"
            yield Broken("cache_root", self.cache_root, expected, also=("cache",))

    @rule("num_classes", "classes")
    def _as_many_classes_as_are_named(self) -> Iterator[Broken]:
        if self.classes and len(self.classes) != self.num_classes:
            expected = f"{len(self.classes)}, the classes that data.classes names"
            yield Broken("num_classes", self.num_classes, expected, also=("classes",))

    @rule("root", "source", "name")
    def _no_root_of_packaged_data(self) -> Iterator[Broken]:
        if self.root is not None and self.source in (DataSource.mnist5k, DataSource.digits):
            expected = (
                f"null, since {self.name} (data.source={self.source.value}) is a file of an"
                " installed package; to train on images of your own, leave profile=mini out, or"
                " choose a layout with data=imagenet"
            )
            yield Broken("root", self.root, expected, also=("source",))

    @rule("train", "val", "source")
    def _no_folders_of_fixed_layouts(self) -> Iterator[Broken]:
        fixed = {DataSource.mnist5k, DataSource.digits, DataSource.cifar100}
        for key, value in (("train", self.train), ("val", self.val)):
            if value is not None and self.source in fixed:
                expected = f"null, since data.source={self.source.value} names its files itself"
                yield Broken(key, value, expected, also=("source",))

    @property
    def image_side(self) -> int | None:
        """Pixels along one side, where every data set of the source has the same; else None."""
        return _SIDES.get(self.source)

    @property
    def image_sizes(self) -> str:
        """The sizes of the images of a source without `image_side`, in words."""
        one = self.source is DataSource.idx
        return "one size that its files alone say" if one else "any size"


_SIDES = {DataSource.cifar100: 32, DataSource.mnist5k: 28, DataSource.digits: 8}
_USUAL_LABELS: dict[DataSource, str] = {
    DataSource.huggingface: "label",
    DataSource.inaturalist: "name",
    DataSource.cifar100: "fine",
}
"""The labels that null means."""
_ANY = ("*",)
_LABELS: dict[DataSource, tuple[str, ...]] = {
    DataSource.webdataset: _ANY,
    DataSource.huggingface: _ANY,
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
"""The labels of each source that has several; * is any."""
