from __future__ import annotations

import hashlib
import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from layouts import CLASSES, split_of
from PIL import Image

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


def each_saved(tables: Any, root: Path) -> None:
    for name, table in tables.items():
        table.save_to_disk(str(root / name))


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
        DataError, match=r"data.val: \S* has no split 'test'; it has train, validation, and slices"
    ):
        open_dataset(trees("huggingface", tmp_path / "trees", val="test"))
    tables["train"].save_to_disk(str(tmp_path / "folds" / "fold-1"))
    tables["validation"].save_to_disk(str(tmp_path / "folds" / "fold-2"))
    open_dataset(trees("huggingface", tmp_path / "folds", train="fold-1", val="fold-2"))
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
    ("train", "val", "problem"),
    [
        ("train[:80%]", "train[70%:]", r"images are the same \(2 rows: train\[8:10\]\)"),
        ("train", "validation+train[:3]", r"images are the same \(3 rows: train\[0:3\]\)"),
        ("train[:75%]", "train[75%:]", None),
        ("all", "validation", "data.train: .* no split 'all'; it has train, validation, and"),
        ("train", "train[:150%]", r"data.val: .* no split 'train\[:150%\]'; it has train, val"),
    ],
)
@pytest.mark.parametrize("write", [saved, each_saved, parquet])
def test_slices_are_rows_of_splits_and_share_none(
    write: Callable[[Any, Path], None],
    train: str,
    val: str,
    problem: str | None,
    tables: Any,
    tmp_path: Path,
    trees: Trees,
) -> None:
    tables["train"] = tables["train"].shuffle(seed=1).flatten_indices()
    write(tables, tmp_path / "trees")
    config = trees("huggingface", tmp_path / "trees", train=train, val=val)
    if problem is None:
        found = open_unchecked(config)
        assert [*found.train.labels, *found.val.labels] == tables["train"]["label"][:]
        last = tables["train"][11]["image"]
        with Image.open(io.BytesIO(found.val.read(2))) as image:
            assert image.tobytes() == last.tobytes()
    else:
        with pytest.raises(DataError, match=problem):
            open_unchecked(config)


def test_slices_of_one_table_that_has_no_splits_share_no_row(
    tables: Any, tmp_path: Path, trees: Trees
) -> None:
    saved(tables["train"].shuffle(seed=1).flatten_indices(), tmp_path)
    assert open_unchecked(trees("huggingface", tmp_path, train="train[:75%]", val="train[75%:]"))
    for train in (None, "train[:75%]", "train"):
        with pytest.raises(DataError, match="training and validation images are the same"):
            open_unchecked(trees("huggingface", tmp_path, train=train))


def test_the_fingerprint_covers_the_rows_of_slices_and_not_the_spelling(
    tables: Any, tmp_path: Path, trees: Trees
) -> None:
    saved(tables, tmp_path)

    def fingerprint(train: str | None, val: str | None) -> str:
        return huggingface.read_splits(trees("huggingface", tmp_path, train=train, val=val))[2]

    listed = sorted((p.relative_to(tmp_path), p.stat().st_size) for p in tmp_path.rglob("*.*"))
    files = hashlib.sha256("\n".join(f"{path} {size}" for path, size in listed).encode())
    whole = fingerprint(None, None)
    assert whole == files.hexdigest() == fingerprint("train[:100%]", "validation[0:]")
    assert fingerprint("train[:50%]", "train[50%:75%]") == fingerprint("train[:6]", "train[6:9]")
    folds = [("train[:6]", "train[6:9]"), ("train[:6]", "train[9:]"), ("train[:5]", "train[6:9]")]
    assert len({whole, *(fingerprint(*fold) for fold in folds)}) == 4


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
    with pytest.raises(DataError, match="no Hugging Face data set"):
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
    with pytest.raises(DataError, match=r"no Hugging Face data set .*Parquet"):
        open_dataset(trees("huggingface", tmp_path / "trees"))
