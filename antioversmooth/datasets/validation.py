"""Another validation set than that of a spec: a folder or tar file with no training images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from antioversmooth.config import DataConfig, DataSource
from antioversmooth.datasets.recognition import has_class_folders
from antioversmooth.errors import DataError

OWN_LAYOUTS = {
    DataSource.webdataset,
    DataSource.huggingface,
    DataSource.cifar100,
    DataSource.idx,
    DataSource.inaturalist,
}


def validation_config(data: DataConfig, path: Path) -> DataConfig:
    """The data of a spec, with the validation images of another folder or tar file.

    PATH.tar, PATH/val.tar or PATH/val/*.tar; PATH/val/<class>/*; PATH/<class>/*; or the layout of
    the spec's own data.

    Raises:
        DataError: There is no such folder or tar file, or it holds none of these.
    """
    if not path.exists():
        raise DataError(f"--data {path}: there is no such folder or tar file")
    if path.is_file():
        if path.suffix != ".tar":
            raise DataError(f"--data {path}: must be a folder or a .tar file; unpack other files")
        return _of(data, DataSource.tar, path.parent, path.name)
    own = data.source in OWN_LAYOUTS
    name = ((None if own else data.val) or "val").removesuffix(".tar")
    folder = path / name
    if own and _has_folders(folder):
        return _of(data, DataSource.image_folder, path, name)
    if data.source is not DataSource.webdataset and _has_tar_files(path, name):
        return _of(data, DataSource.tar, path, name)
    if not own and folder.is_dir():
        return _of(data, DataSource.image_folder, path, name)
    if has_class_folders(path) and not _has_annotations(data, path):
        return _of(data, DataSource.image_folder, path, ".")
    if own:
        return replace(data, root=str(path), fingerprint="")
    raise DataError(
        f"--data {path}: has no folder {name} and no class folders of images; what is read:"
        f" DIR/{name}/<class>/*, DIR/<class>/* (name the folder that holds the class folders),"
        f" DIR/{name}/<class>.tar, DIR/{name}.tar or another tar file of class folders; other"
        " layouts, such as a Hugging Face data set, for runs that were trained on one"
    )


def _has_folders(folder: Path) -> bool:
    return folder.is_dir() and any(entry.is_dir() for entry in folder.iterdir())


def _has_tar_files(path: Path, name: str) -> bool:
    return (path / f"{name}.tar").is_file() or any((path / name).glob("*.tar"))


def _has_annotations(data: DataConfig, path: Path) -> bool:
    """Whether folders of images are iNaturalist's, whose classes are in files beside them."""
    return data.source is DataSource.inaturalist and any(path.glob("*.json"))


def _of(data: DataConfig, source: DataSource, root: Path, val: str) -> DataConfig:
    label = data.label if source is data.source else None
    return replace(
        data, source=source, root=str(root), train=None, val=val, label=label, fingerprint=""
    )
