"""iNaturalist 2018 and 2019: train<year>.json, val<year>.json, categories.json.

As in the released code, a class is a value of one taxonomic level (data.label), and the classes are
numbered in the order in which the training annotations first name them.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from antioversmooth.config import DataConfig
from antioversmooth.datasets.images import FileImages, encode_names
from antioversmooth.datasets.missing import missing_data
from antioversmooth.datasets.passed_over import PassedOver, file_kind
from antioversmooth.errors import DataError


def scan_split(config: DataConfig, split: str) -> tuple[list[str], FileImages, list[Path]]:
    """Classes, images, and the JSON files. A missing image file is noticed when it is read.

    Raises:
        DataError: A JSON file is missing or not of this layout.
    """
    root, level = Path(config.root or ""), config.label or "name"
    annotations = {
        name: _annotations(config, getattr(config, name) or f"{name}20??.json")
        for name in ("train", split)
    }
    categories, passed = root / "categories.json", PassedOver()
    try:
        # by number: a negative one would count from the end of a list
        of_category = {n: found[level] for n, found in enumerate(_load(config, categories))}
        numbers: dict[str, int] = {}
        for annotation in _load(config, annotations["train"])["annotations"]:
            numbers.setdefault(of_category[int(annotation["category_id"])], len(numbers))
        paths = [str(image["file_name"]) for image in _load(config, annotations[split])["images"]]
        names = [name for name in paths if _is_image(name, passed)]
        labels = [numbers[of_category[int(PurePosixPath(name).parts[2])]] for name in names]
    except (KeyError, IndexError, TypeError, ValueError) as err:
        raise DataError(
            f"{annotations[split]}: not in the layout of iNaturalist ({type(err).__name__}: {err});"
            f" images are <folder>/<supercategory>/<category id>/<file>, {categories.name} says the"
            f" {level} of each category id"
        ) from err
    stored = encode_names(_image_paths(root, names))
    images = FileImages(root, stored, np.array(labels, np.int64), passed_over=passed)
    return list(numbers), images, [categories, *annotations.values()]


def _is_image(name: str, passed: PassedOver) -> bool:
    if kind := file_kind(name):
        passed.add(kind, name)
    return kind is None


def _annotations(config: DataConfig, pattern: str) -> Path:
    root = Path(config.root or "")
    found = sorted(root.glob(pattern))
    if not found:
        raise missing_data(config, f"there is no file {root / pattern}")
    if len(found) > 1:
        raise DataError(
            f"data.root: {root} has {' and '.join(path.name for path in found)}; name one with"
            " data.train, data.val"
        )
    return found[0]


def _load(config: DataConfig, path: Path) -> Any:
    if not path.is_file():
        raise missing_data(config, f"there is no file {path}")
    with path.open("rb") as file:
        return json.load(file)


def _image_paths(root: Path, names: list[str]) -> list[str]:
    """Paths as the archives unpack, or as DeiT's code expects them: without the supercategory.

    The first image decides.
    """

    def short(name: str) -> str:
        folder, _, *rest = PurePosixPath(name).parts
        return str(PurePosixPath(folder, *rest))

    moved = bool(names) and not (root / names[0]).exists() and (root / short(names[0])).exists()
    return [short(name) for name in names] if moved else names
