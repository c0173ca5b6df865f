"""The layout of a data set that no spec describes, by the names of its files and folders."""

from __future__ import annotations

import json
import re
import shlex
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fnmatch import fnmatch
from itertools import chain, islice
from pathlib import Path

import numpy as np

from antioversmooth.config import DataConfig, DataSource
from antioversmooth.datasets.dataset import SCANS, ImageDataset, open_unchecked
from antioversmooth.datasets.layouts.huggingface import stratified_halves
from antioversmooth.datasets.missing import LAYOUTS
from antioversmooth.datasets.passed_over import file_kind, litter_kind
from antioversmooth.errors import DataError, and_more

TRAIN = ("train", "training")
VALIDATION = ("val", "valid", "validation", "dev", "eval", "test", "testing")
"""Names of a split in small letters; of several that are there, the first is used."""
HUGGINGFACE = {"val": "validation", "valid": "validation", "dev": "validation", "training": "train"}
"""The names that the library gives to the splits of Parquet files."""
OF_OTHER_SPECS = {
    "cifar-100-python": "CIFAR-100: launch a row with data=cifar100 data.root=DIR",
    "*-images-idx3-ubyte*": "a set of IDX files: launch a row with data=fashion_mnist data.root=DIR"
    " and its own counts",
    "train20[0-9][0-9].json": "iNaturalist: launch a row with data=inaturalist2018 data.root=DIR",
}
"""Layouts of certain data sets, which have a spec already, by a file or folder in them."""
SAMPLES = 20
"""Members of a tar file that show whether it is a shard."""


def recognise(path: Path, *, label: str | None = None) -> DataConfig:
    """The source, root and places of the splits of a folder or tar file; its counts are not right.

    Args:
        label: The label to use where a layout has several, as `data.label`.

    Raises:
        DataError: It is no data set, or has no validation images; the message says what to do.
    """
    if not path.exists():
        raise DataError(f"{path}: there is neither such a folder or tar file, nor such a spec")
    if path.is_file():
        return _recognise_file(path, label)
    for pattern, what in OF_OTHER_SPECS.items():
        if any(path.glob(pattern)):
            raise DataError(f"{path} is {what.replace('DIR', str(path))}")
    for found in (_huggingface(path, label), _tar_files(path, label), _tar_folders(path, label)):
        if found:
            return found
    return _image_folder(path, label)


def class_folders(path: Path) -> Path:
    """The folder that holds the class folders of training images: `path`, or a folder in it.

    Raises:
        DataError: There are validation images beside them, or no class folders at all.
    """
    if not path.is_dir():
        raise DataError(f"{path} is no folder of class folders")
    if _huggingface(path, None):
        raise DataError(f"{path} has validation images already; leave --split out")
    if inner := _data_set_below(path):
        raise DataError(f"{path} holds a data set in a folder of it: name {inner}")
    folders = {folder.name: folder for folder in _folders(path)}
    train, val = _pair(folders)
    rename = "rename it if it is a class"
    if train and val:
        raise DataError(f"{path} has validation images already, {folders[val]}; leave --split out")
    if val:
        raise DataError(f"{folders[val]} has the name of a folder of validation images; {rename}")
    top = folders[train] if train else path
    if any(_holds_image(one) for one in _folders(top)):
        return top
    if train:
        raise DataError(
            f"{top} has the name of the folder of all training images, and holds no class folders"
            f" with images; {rename}"
        )
    raise DataError(f"{path} has no class folders with images")


def _data_set_below(path: Path) -> Path | None:
    """A folder with training and validation images, at most three folders below; None: no such."""
    folders = _folders(path)
    for _ in range(3):
        contents = {folder: _folders(folder) for folder in folders}
        for folder, inner in contents.items():
            if all(_pair(one.name for one in inner)):
                return folder
        folders = list(chain.from_iterable(contents.values()))
    return None


def has_class_folders(path: Path) -> bool:
    """Whether a folder holds class folders of images: its folders, those of splits left out, hold
    images at any depth, or one with the name of a split holds some itself."""
    splits = {*TRAIN, *VALIDATION}
    return any(_holds_image(one, deep=one.name.lower() not in splits) for one in _folders(path))


def open_recognised(config: DataConfig) -> tuple[DataConfig, ImageDataset, list[str]]:
    """The data set, its config with the right counts, and warnings about splits and classes left
    out.

    Raises:
        DataError: It cannot be listed, or has fewer than two classes.
    """
    warnings = list(_unused_splits(config))
    try:
        dataset = open_unchecked(config)
    except DataError:
        classes, left_out = _classes_of_both(config) if config.source in SCANS else ([], [])
        if len(classes) < 2 or not left_out:
            raise
        config = replace(config, num_classes=len(classes), classes=classes)
        dataset = open_unchecked(config)
        warnings.append(
            f"{and_more(left_out, 5)}: not in both splits, and left out by data.classes; add images"
            " to the other split, or accept that these are no classes of the data set"
        )
    if len(dataset.classes) < 2:
        raise DataError(
            f"{config.root} has the single class {dataset.classes[0]}: there is nothing to"
            f" classify{dataset.passed_over.note()}"
        )
    config = replace(
        config,
        num_classes=len(dataset.classes),
        num_train=len(dataset.train.labels),
        num_val=len(dataset.val.labels),
    )
    return config, dataset, warnings


def _unused_splits(config: DataConfig) -> Iterator[str]:
    """A warning where there are more splits than the two that are used."""
    root, places = Path(config.root or ""), (config.train, config.val)
    names = {folder.name for folder in _folders(root)}
    if config.source is DataSource.huggingface:
        names, usual = set(_huggingface_splits(root) or ()), ("train", "validation")
    elif config.source is DataSource.tar or any("/" in (place or "") for place in places):
        names, usual = names | {path.stem for path in root.glob("*.tar")}, ("train", "val")
    elif config.source is DataSource.webdataset:
        names, usual = {path.name for path in root.glob("*.tar")}, ("*train*.tar", "*val*.tar")
    else:
        usual = ("train", "val")
    used = [(place or other).split("/")[0] for place, other in zip(places, usual, strict=True)]
    words = {*TRAIN, *VALIDATION}
    others = sorted(
        name
        for name in names
        if not any(fnmatch(name, pattern) for pattern in used)
        if name.lower() in words or name.endswith(".tar")
    )
    if others:
        yield (
            f"{and_more(others, 5)}: not used, beside {used[0]} for training and {used[1]} for"
            " validation; data.train and data.val of the spec name others"
        )


def _classes_of_both(config: DataConfig) -> tuple[list[str], list[str]]:
    """Names of the classes with images in both splits, and of the others."""
    names, of_splits = set[str](), []
    for split in ("train", "val"):
        classes, images, _ = SCANS[config.source](config, split)
        names.update(classes)
        of_splits.append({classes[label] for label in np.unique(images.labels).tolist()})
    both = of_splits[0] & of_splits[1]
    return sorted(both), sorted(names - both)


# -- layouts ---------------------------------------------------------------------------------------


def _recognise_file(path: Path, label: str | None) -> DataConfig:
    if path.suffix != ".tar":
        raise DataError(
            f"{path} is no data set: name a folder, or a .tar file that is not compressed; unpack"
            " other archives; of a table name the folder that it lies in"
        )
    is_split = _is_shard(path) or _pair([path.stem]) != (None, None)
    if is_split and (beside := _tar_files(path.parent, label)):
        return beside
    raise DataError(
        f"{path}: one tar file, and none of validation images beside it (train.tar and val.tar)."
        " Unpack it, and call this with the folder; there --split NEWDIR makes a validation split"
    )


def _huggingface(root: Path, label: str | None) -> DataConfig | None:
    """A data set of `save_to_disk`, or Parquet files that `load_dataset` reads."""
    splits = _huggingface_splits(root)
    if splits is None:
        return None
    train, val = _pair(splits)
    if val is None:
        loader = "load_dataset" if _splits_on_disk(root) is None else "load_from_disk"
        split = f"[{train!r}]" if train else ""
        raise DataError(
            f"{root}: a Hugging Face data set without validation images; make some in Python:"
            f" {stratified_halves(f'datasets.{loader}({str(root)!r}){split}', label)}"
        )
    return _config(root, DataSource.huggingface, train, val, label)


def _huggingface_splits(root: Path) -> list[str] | None:
    """Names of the splits on disk or in Parquet files; None where there are neither."""
    splits = _splits_on_disk(root)
    if splits is not None:
        return splits
    parquet = [*root.glob("*.parquet"), *root.glob("*/*.parquet")]
    words = [re.split(r"[-_./]", str(path.relative_to(root)).lower()) for path in parquet]
    named = {word for name in words for word in name if word in (*TRAIN, *VALIDATION)}
    return [HUGGINGFACE.get(word, word) for word in sorted(named)] if parquet else None


def _splits_on_disk(root: Path) -> list[str] | None:
    """Names of the splits that `save_to_disk` wrote; None where it did not write here."""
    listing = root / "dataset_dict.json"
    if listing.is_file():
        try:
            return [str(name) for name in json.loads(listing.read_text())["splits"]]
        except (ValueError, KeyError, TypeError) as err:
            raise DataError(f"{listing} is no list of splits ({err})") from err
    if (root / "state.json").is_file():
        return []
    return [path.parent.name for path in sorted(root.glob("*/state.json"))] or None


def _tar_files(root: Path, label: str | None) -> DataConfig | None:
    """Shards beside each other, or one tar file of class folders for each split."""
    found = [path for path in sorted(root.glob("*.tar")) if not litter_kind([path.name])]
    if not found:
        return None
    if not _is_shard(found[0]):
        train, val = _pair(path.stem for path in found)
        if val is None:
            raise DataError(
                f"{root}: {and_more([path.name for path in found], 3)}, and no tar file of"
                " validation images (val.tar). Unpack them, and call this with the folder; there"
                " --split NEWDIR makes a validation split"
            )
        return _config(root, DataSource.tar, train, val, label)
    words = [word for word in (*TRAIN, *VALIDATION) if any(word in path.name for path in found)]
    train, val = _pair(words)
    if val is None:
        raise DataError(
            f"{root}: shards, and none of validation images (*val*.tar); where samples are in"
            " random order, rename a fifth of the shards"
        )
    shards = f"*{train}*.tar" if train else None
    return _config(root, DataSource.webdataset, shards, f"*{val}*.tar", label)


def _tar_folders(root: Path, label: str | None) -> DataConfig | None:
    """A folder of tar files for each split: one a class, or shards."""
    archives = {folder.name: sorted(folder.glob("*.tar")) for folder in _folders(root)}
    train, val = _pair(name for name, found in archives.items() if found)
    if train is None or val is None:
        return None
    if _is_shard(archives[train][0]):
        return _config(root, DataSource.webdataset, f"{train}/*.tar", f"{val}/*.tar", label)
    return _config(root, DataSource.tar, train, val, label)


def _image_folder(root: Path, label: str | None) -> DataConfig:
    folders = {folder.name: folder for folder in _folders(root)}
    train, val = _pair(folders)
    if train and val:
        return _config(root, DataSource.image_folder, train, val, label)
    if inner := _data_set_below(root):
        raise DataError(f"{root} holds a data set in a folder of it: name {inner}")
    try:
        class_folders(root)
    except DataError:
        if train:
            raise
        difference = _difference(root, list(folders.values()), val)
        raise DataError(f"{root} is no data set: {difference}") from None
    raise DataError(
        f"{root}: class folders of images, and no validation images. `antioversmooth data"
        f" {shlex.quote(str(root))} --split NEWDIR` makes some: a fifth of each class, as links in"
        " a new folder; nothing is moved. Where several images show one object, divide them by hand"
        " into train/<class>/ and val/<class>/, an object on one side alone"
    )


def _difference(root: Path, folders: list[Path], val: str | None) -> str:
    """Contents that are there instead of a data set, and the layouts that are recognised."""
    if val:
        return f"{root / val} is there, and no folder of training images (train/<class>/)"
    files = islice((path.name for path in root.iterdir() if path.is_file()), 1000)
    if any(file_kind(name) is None for name in files):
        return "its images are in no class folders (train/<class>/ and val/<class>/)"
    names = and_more([folder.name for folder in folders], 3) or "no folder"
    layouts = "; ".join(LAYOUTS[source] for source in _RECOGNISED)
    return f"it has {names} and no images in class folders; what is recognised: {layouts}"


_RECOGNISED = (
    DataSource.image_folder,
    DataSource.tar,
    DataSource.webdataset,
    DataSource.huggingface,
)


def _config(
    root: Path,
    source: DataSource,
    train: str | None,
    val: str | None,
    label: str | None = None,
) -> DataConfig:
    """A config that a data set can be listed by; places that the layout itself names are null."""
    if label is not None and source in (DataSource.image_folder, DataSource.tar):
        raise DataError(f"--label {label}: in {root}, the folder of an image is its label")
    if train is None:
        raise DataError(f"{root}: there are validation images ({val}), and no training images")
    usual = {
        DataSource.webdataset: ("*train*.tar", "*val*.tar"),
        DataSource.huggingface: ("train", "validation"),
    }.get(source, ("train", "val"))
    return DataConfig(
        name=root.resolve().name,
        source=source,
        root=str(root),
        num_classes=2,
        num_train=0,
        num_val=1,
        train=None if train == usual[0] else train,
        val=None if val == usual[1] else val,
        label=label,
    )


# -- names -----------------------------------------------------------------------------------------


def _pair(names: Iterable[str]) -> tuple[str | None, str | None]:
    """The names of the training and of the validation split among some; None: there is none."""
    known = {name.lower(): name for name in names}
    found = [next((known[w] for w in words if w in known), None) for words in (TRAIN, VALIDATION)]
    return found[0], found[1]


def _folders(path: Path) -> list[Path]:
    """Folders in a folder, without those that systems and editors leave."""
    found = (one for one in path.iterdir() if one.is_dir() and not litter_kind([one.name]))
    return sorted(found)


def _holds_image(folder: Path, *, deep: bool = True) -> bool:
    """Whether a folder holds an image; of a deep search, also whether a folder in it does."""
    found = folder.rglob("*") if deep else folder.iterdir()
    return any(file_kind(path.name) is None for path in found if path.is_file())


def _is_shard(archive: Path) -> bool:
    """Whether the first members of a tar file are parts of samples."""
    try:
        with tarfile.open(archive, "r:") as file:
            return any(member.name.endswith((".cls", ".json")) for member in islice(file, SAMPLES))
    except (tarfile.TarError, EOFError, ValueError, OverflowError):
        # listing it says what is wrong
        return False
