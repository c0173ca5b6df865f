from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from layouts import jpeg

from antioversmooth.config import DataConfig
from antioversmooth.datasets.dataset import open_dataset
from antioversmooth.errors import DataError, SpecError

Trees = Callable[..., DataConfig]

CATEGORIES = [
    {"name": "oak", "genus": "quercus", "supercategory": "Plantae"},
    {"name": "pine", "genus": "pinus", "supercategory": "Plantae"},
    {"name": "cork oak", "genus": "quercus", "supercategory": "Plantae"},
]
TRAIN = [2, 0, 1, 0]
"""Category of each training image: the first one named is class 0."""
VAL = [0, 1, 2]


def write(root: Path, *, year: int = 2018, deits: bool = False) -> None:
    """Writes the layout as downloaded, or without supercategories, as DeiT's code reads it."""
    (root / "categories.json").write_text(json.dumps(CATEGORIES))
    for split, labels in (("train", TRAIN), ("val", VAL)):
        images = [
            f"train_val{year}/Plantae/{label}/{split}{i}.jpg" for i, label in enumerate(labels)
        ]
        content = {
            "images": [{"id": i, "file_name": name} for i, name in enumerate(images)],
            "annotations": [
                {"image_id": i, "category_id": label} for i, label in enumerate(labels)
            ],
        }
        (root / f"{split}{year}.json").write_text(json.dumps(content))
        for i, name in enumerate(images):
            path = root / (name.replace("Plantae/", "") if deits else name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(jpeg(i))


@pytest.mark.parametrize("deits", [False, True])
def test_species_are_numbered_as_the_training_annotations_name_them(
    deits: bool, tmp_path: Path, trees: Trees
) -> None:
    write(tmp_path, deits=deits)
    found = open_dataset(trees("inaturalist", tmp_path, num_train=4, num_val=3))
    assert found.classes == ["cork oak", "oak", "pine"]
    assert found.train.labels.tolist() == [0, 1, 2, 1]
    assert found.val.labels.tolist() == [1, 2, 0]
    assert found.val.read(2) == jpeg(2)


def test_a_level_of_the_taxonomy_can_be_the_class(tmp_path: Path, trees: Trees) -> None:
    write(tmp_path)
    found = open_dataset(
        trees("inaturalist", tmp_path, num_classes=2, num_train=4, num_val=3, label="genus")
    )
    assert found.classes == ["quercus", "pinus"]
    assert found.train.labels.tolist() == [0, 0, 1, 0]
    with pytest.raises(SpecError, match=r"data.label: 'tribe' is not possible: one of kingdom"):
        trees("inaturalist", tmp_path, label="tribe")


def test_annotations_of_two_years_in_one_folder_are_ambiguous(tmp_path: Path, trees: Trees) -> None:
    write(tmp_path, year=2018)
    write(tmp_path, year=2019)
    with pytest.raises(
        DataError, match=r"train2018.json and train2019.json; name one with data.train"
    ):
        open_dataset(trees("inaturalist", tmp_path, num_train=4, num_val=3))
    config = trees(
        "inaturalist", tmp_path, num_train=4, num_val=3, train="train2019.json", val="val2019.json"
    )
    assert "train_val2019" in open_dataset(config).train.name(0)


def test_a_split_without_images_is_named(tmp_path: Path, trees: Trees) -> None:
    write(tmp_path)
    (tmp_path / "val2018.json").write_text('{"images": [], "annotations": []}')
    with pytest.raises(DataError, match="val has no image"):
        open_dataset(trees("inaturalist", tmp_path, num_train=4, num_val=3))


def test_another_layout_is_named(tmp_path: Path, trees: Trees) -> None:
    write(tmp_path)
    (tmp_path / "train2018.json").write_text('{"annotations": [{"category_id": 77}]}')
    with pytest.raises(DataError, match=r"train2018.json: not in the layout of iNaturalist"):
        open_dataset(trees("inaturalist", tmp_path, num_train=4, num_val=3))
    (tmp_path / "categories.json").unlink()
    with pytest.raises(DataError, match=r"there is no file .*categories.json; set INATURALIST="):
        open_dataset(trees("inaturalist", tmp_path, num_train=4, num_val=3))


def test_a_negative_category_counts_from_no_end(tmp_path: Path, trees: Trees) -> None:
    write(tmp_path)
    content = (tmp_path / "val2018.json").read_text()
    (tmp_path / "val2018.json").write_text(content.replace("/Plantae/2/", "/Plantae/-1/"))
    with pytest.raises(DataError, match=r"not in the layout of iNaturalist \(KeyError: -1\)"):
        open_dataset(trees("inaturalist", tmp_path, num_train=4, num_val=3))
