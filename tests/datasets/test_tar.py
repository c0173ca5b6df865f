from __future__ import annotations

import gc
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from layouts import COUNTS, split_of
from timm.data.readers.reader_image_in_tar import ReaderImageInTar

from antioversmooth.config import DataConfig
from antioversmooth.datasets.dataset import open_dataset
from antioversmooth.errors import DataError

Trees = Callable[..., DataConfig]
Files = dict[str, bytes]


def write(target: Path | io.BytesIO, files: Files, mode: str = "w") -> None:
    """Writes a tar file with its members in random order."""
    opened = {"name": target} if isinstance(target, Path) else {"fileobj": target}
    with tarfile.open(**opened, mode=mode, format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
        for name, content in sorted(files.items(), key=lambda item: item[0][::-1]):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def one_for_a_split(root: Path) -> None:
    for split in COUNTS:
        write(
            root / f"{split}.tar",
            {f"./{split}/{name}": content for name, content in split_of(split).items()},
        )


def one_for_a_class(root: Path) -> None:
    for split in COUNTS:
        (root / split).mkdir()
        for label, files in by_class(split).items():
            write(root / split / f"{label}.tar", files)


def tars_in_a_tar(root: Path) -> None:
    """Writes tar files within a tar file, as ILSVRC2012_img_train.tar has them."""
    for split in COUNTS:
        inner = {}
        for label, files in by_class(split).items():
            content = io.BytesIO()
            write(content, files)
            inner[f"{label}.tar"] = content.getvalue()
        write(root / f"{split}.tar", inner)


def by_class(split: str) -> dict[str, Files]:
    found: dict[str, Files] = {}
    for name, content in split_of(split).items():
        label, _, file = name.partition("/")
        found.setdefault(label, {})[file] = content
    return found


@pytest.mark.parametrize("layout", [one_for_a_split, one_for_a_class, tars_in_a_tar])
def test_images_are_those_of_the_folder_in_its_order(
    layout: Callable[[Path], None], tmp_path: Path, folder: Path, trees: Trees
) -> None:
    root = tmp_path / "tars"
    root.mkdir()
    layout(root)
    ours, theirs = open_dataset(trees("tar", root)), open_dataset(trees("image_folder", folder))
    assert ours.classes == theirs.classes
    for mine, other in ((ours.train, theirs.train), (ours.val, theirs.val)):
        assert mine.labels.tolist() == other.labels.tolist()
        assert [mine.read(i) for i in range(len(mine.labels))] == [
            other.read(i) for i in range(len(mine.labels))
        ]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("layout", [one_for_a_split, one_for_a_class, tars_in_a_tar])
def test_labels_are_those_of_timms_reader(
    layout: Callable[[Path], None], tmp_path: Path, trees: Trees
) -> None:
    layout(tmp_path)
    found = open_dataset(trees("tar", tmp_path))
    where = tmp_path / "train"
    reader = ReaderImageInTar(
        str(where if where.is_dir() else where.with_suffix(".tar")), cache_tarfiles=False
    )
    assert reader.class_name_to_idx == {name: label for label, name in enumerate(found.classes)}
    theirs = sorted(
        (file.read(), int(label)) for file, label in (reader[i] for i in range(len(reader)))
    )
    del reader
    # timm's reader leaves its files open
    gc.collect()
    assert (
        sorted((found.train.read(i), int(label)) for i, label in enumerate(found.train.labels))
        == theirs
    )


def test_the_name_of_an_image_includes_its_tar_file(tmp_path: Path, trees: Trees) -> None:
    one_for_a_split(tmp_path)
    assert (
        open_dataset(trees("tar", tmp_path)).train.name(0)
        == f"{tmp_path}/train.tar:train/ash/ash0.jpg"
    )


def test_a_fingerprint_follows_the_sizes(tmp_path: Path, trees: Trees) -> None:
    one_for_a_split(tmp_path)
    before = open_dataset(trees("tar", tmp_path)).fingerprint
    files = split_of("train")
    write(tmp_path / "train.tar", files | {"ash/ash0.jpg": files["ash/ash0.jpg"] + b"."})
    assert open_dataset(trees("tar", tmp_path)).fingerprint != before


def test_a_compressed_or_damaged_tar_is_named_with_the_command_to_unpack_it(
    tmp_path: Path, trees: Trees
) -> None:
    one_for_a_split(tmp_path)
    write(tmp_path / "train.tar", split_of("train"), mode="w:gz")
    with pytest.raises(DataError, match=r"train.tar: .*a plain tar file is needed"):
        open_dataset(trees("tar", tmp_path))
    write(tmp_path / "train.tar", split_of("train"))
    whole = (tmp_path / "train.tar").read_bytes()
    (tmp_path / "train.tar").write_bytes(whole[: len(split_of("train")) * 700])
    with pytest.raises(DataError, match=r"train.tar|num_train"):
        open_dataset(trees("tar", tmp_path))


def test_images_without_a_class_are_refused(tmp_path: Path, trees: Trees) -> None:
    one_for_a_split(tmp_path)
    write(tmp_path / "val.tar", {"loose.jpg": b""})
    with pytest.raises(DataError, match=r"val.tar:loose.jpg is in no class folder"):
        open_dataset(trees("tar", tmp_path))


def test_a_tar_file_may_lie_beside_its_unpacked_folder(tmp_path: Path, trees: Trees) -> None:
    one_for_a_split(tmp_path)
    before = open_dataset(trees("tar", tmp_path)).fingerprint
    (tmp_path / "train" / "ash").mkdir(parents=True)
    assert open_dataset(trees("tar", tmp_path)).fingerprint == before
    (tmp_path / "train.tar").unlink()
    with pytest.raises(DataError, match=r"train holds no .tar file"):
        open_dataset(trees("tar", tmp_path))


def test_missing_tar_files_are_named(tmp_path: Path, trees: Trees) -> None:
    with pytest.raises(
        DataError, match=r"neither .*train.tar nor a folder .*train with .tar files; set IMAGENET="
    ):
        open_dataset(trees("tar", tmp_path))
