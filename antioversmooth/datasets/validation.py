"""Another validation set than that of a spec: a folder or tar file with no training images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from antioversmooth.config import DataConfig, DataSource
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
        DataError: There is no such folder or tar file.
    """
    if not path.exists():
        raise DataError(f"--data {path}: there is no such folder or tar file")
    if path.is_file():
        if path.suffix != ".tar":
            raise DataError(f"--data {path}: must be a folder or a .tar file; unpack other files")
        return _of(data, DataSource.tar, path.parent, path.name)
    named = data.val if data.source not in OWN_LAYOUTS else None
    name = (named or "val").removesuffix(".tar")
    folder = path / name
    if data.source in OWN_LAYOUTS and not _has_classes(folder):
        return replace(data, root=str(path), fingerprint="")
    if (path / f"{name}.tar").is_file() or any(folder.glob("*.tar")):
        return _of(data, DataSource.tar, path, name)
    if folder.is_dir():
        return _of(data, DataSource.image_folder, path, name)
    if (path / (data.train or "train")).is_dir():
        raise DataError(f"--data {path}: has training images and no folder {name}")
    return _of(data, DataSource.image_folder, path, ".")


def _has_classes(folder: Path) -> bool:
    return folder.is_dir() and any(entry.is_dir() for entry in folder.iterdir())


def _of(data: DataConfig, source: DataSource, root: Path, val: str) -> DataConfig:
    label = data.label if source is data.source else None
    return replace(
        data, source=source, root=str(root), train=None, val=val, label=label, fingerprint=""
    )
