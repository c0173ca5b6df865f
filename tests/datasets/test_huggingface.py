from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from layouts import CLASSES, split_of

from antioversmooth import installation
from antioversmooth.config import DataConfig
from antioversmooth.datasets.dataset import open_dataset, open_unchecked
from antioversmooth.datasets.layouts import huggingface
from antioversmooth.errors import DataError

Trees = Callable[..., DataConfig]


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Both splits as the library holds them."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))}
    )
    made = {}
    for split, name in (("train", "train"), ("val", "validation")):
        images = [{"bytes": content, "path": None} for content in split_of(split).values()]
        labels = [CLASSES.index(path.partition("/")[0]) for path in split_of(split)]
        made[name] = datasets.Dataset.from_dict(
            {"image": images, "label": labels}, features=features
        )
    return datasets.DatasetDict(made)


def saved(tables: Any, root: Path) -> None:
    tables.save_to_disk(str(root))


def parquet(tables: Any, root: Path) -> None:
    root.mkdir()
    for name, table in tables.items():
        table.to_parquet(str(root / f"{name}-00000-of-00001.parquet"))


@pytest.mark.parametrize("write", [saved, parquet])
def test_rows_are_read_in_their_order(
    write: Callable[[Any, Path], None], tables: Any, tmp_path: Path, trees: Trees
):
    write(tables, tmp_path / "trees")
    found = open_dataset(trees("huggingface", tmp_path / "trees"))
    assert list(found.classes) == list(CLASSES)
    for split, images in (("train", found.train), ("val", found.val)):
        assert [images.read(i) for i in range(len(images.labels))] == list(split_of(split).values())
        assert images.labels.tolist() == [
            CLASSES.index(name.partition("/")[0]) for name in split_of(split)
        ]
    # loading processes may get it pickled
    again = pickle.loads(pickle.dumps(found.train))
    assert again.read(5) == found.train.read(5)
    assert found.train.name(3) == f"{tmp_path}/trees:train[3]"


def test_splits_and_columns_that_are_not_there_are_named(
    tables: Any, tmp_path: Path, trees: Trees
) -> None:
    saved(tables, tmp_path / "trees")
    with pytest.raises(
        DataError, match=r"no split 'test'; name another one with data.train, data.val"
    ):
        open_dataset(trees("huggingface", tmp_path / "trees", val="test"))
    with pytest.raises(DataError, match=r"train has no column 'species'; it has image, label"):
        open_dataset(trees("huggingface", tmp_path / "trees", label="species"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no Hugging Face data set"):
        open_dataset(trees("huggingface", tmp_path / "empty"))


def test_slices_of_rows_that_are_sorted_by_class_are_refused_with_what_splits_them(
    tables: Any, tmp_path: Path, trees: Trees
) -> None:
    parquet(tables, tmp_path / "trees")
    config = trees("huggingface", tmp_path / "trees", train="train[:50%]", val="train[50%:]")
    advice = r"cedar; train\[:50%\] is a part .* split='train'\); halves = .*stratify_by_column"
    with pytest.raises(DataError, match=advice):
        open_unchecked(config)


@pytest.mark.parametrize(
    ("train", "val", "shared"),
    [
        ("train[:80%]", "train[70%:]", r"2 rows: train\[8:10\]"),
        ("train", "validation+train[:3]", r"3 rows: train\[0:3\]"),
        ("train[:75%]", "train[75%:]", None),
    ],
)
def test_slices_that_share_rows_are_refused_with_their_number(
    train: str, val: str, shared: str | None, tables: Any, tmp_path: Path, trees: Trees
) -> None:
    tables["train"] = tables["train"].shuffle(seed=1)
    parquet(tables, tmp_path / "trees")
    config = trees("huggingface", tmp_path / "trees", train=train, val=val)
    if shared is None:
        assert len(open_unchecked(config).val.labels) == 3
    else:
        with pytest.raises(DataError, match=f"images are the same \\({shared}\\)"):
            open_unchecked(config)


def test_the_only_columns_of_images_and_of_classes_are_used_whatever_their_names(
    tables: Any, tmp_path: Path, trees: Trees
) -> None:
    datasets = pytest.importorskip("datasets")
    tables = tables.rename_columns({"image": "img", "label": "species"})
    saved(tables, tmp_path / "trees")
    found = open_dataset(trees("huggingface", tmp_path / "trees"))
    assert found.train.read(5) == list(split_of("train").values())[5]
    assert list(found.classes) == list(CLASSES)
    genus = datasets.ClassLabel(names=["tree"])
    for name, table in tables.items():
        tables[name] = table.add_column("genus", [0] * len(table)).cast_column("genus", genus)
    saved(tables, tmp_path / "two")
    with pytest.raises(DataError, match=r"no column 'label'; .*; data.label names another one"):
        open_dataset(trees("huggingface", tmp_path / "two"))


def test_labels_that_are_words_and_empty_splits_are_refused(
    tables: Any, tmp_path: Path, trees: Trees
) -> None:
    datasets = pytest.importorskip("datasets")
    words = tables.cast_column("label", datasets.Value("string"))
    saved(words.map(lambda row: {"label": "an ash"}), tmp_path / "words")
    with pytest.raises(
        DataError, match=r"words:train: label must hold class numbers.*string.*class_enc"
    ):
        open_dataset(trees("huggingface", tmp_path / "words"))
    tables["validation"] = tables["validation"].select([])
    saved(tables, tmp_path / "empty")
    with pytest.raises(DataError, match="no Hugging Face data set with a split"):
        open_dataset(trees("huggingface", tmp_path / "empty"))


def test_the_extra_is_named_where_the_library_is_missing(
    tmp_path: Path, trees: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface, "find_spec", lambda _: None)
    monkeypatch.setattr(installation, "is_checkout", lambda: False)
    with pytest.raises(DataError, match=r'pip install "antioversmooth\[huggingface\]'):
        open_dataset(trees("huggingface", tmp_path))


def test_the_library_is_not_loaded_for_other_sources() -> None:
    source = (
        "import sys, antioversmooth.datasets.dataset; sys.exit('datasets' in sys.modules or 'torch'"
        " in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", source], check=False).returncode == 0


@pytest.mark.parametrize("label", [0.5, float("nan")])
def test_labels_that_are_fractions_are_refused(
    label: float, tables: Any, tmp_path: Path, trees: Trees
) -> None:
    datasets = pytest.importorskip("datasets")
    numbers = tables.cast_column("label", datasets.Value("float32"))
    change = {"label": label}
    saved(
        numbers.map(lambda row, index: change if index == 3 else row, with_indices=True), tmp_path
    )
    with pytest.raises(DataError, match=r"label must hold class numbers and .*float32"):
        open_dataset(trees("huggingface", tmp_path))


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_torn_parquet_file_is_refused(
    split: str, tables: Any, tmp_path: Path, trees: Trees
) -> None:
    parquet(tables, tmp_path / "trees")
    path = tmp_path / "trees" / f"{split}-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DataError, match=r"no Hugging Face data set with a split .*Parquet"):
        open_dataset(trees("huggingface", tmp_path / "trees"))
