from __future__ import annotations

import contextlib
import gc
import gzip
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from layouts import COUNTS, jpeg, split_of
from timm.data.readers.reader_image_in_tar import ReaderImageInTar

from antioversmooth.config import DataConfig
from antioversmooth.datasets.dataset import open_dataset
from antioversmooth.datasets.passed_over import CIRCULAR, DANGLING, EMPTY, REPLACED
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
    (tmp_path / "train.tar").write_bytes(gzip.compress(whole)[:3000])
    with pytest.raises(DataError, match=r"train.tar: .*a plain tar file is needed"):
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


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_a_tar_file_that_is_cut_off_anywhere_is_refused(
    form: int, tmp_path: Path, trees: Trees
) -> None:
    """In a header, after it, in the data, in its padding, at a member's end."""
    one_for_a_split(tmp_path)
    with tarfile.open(tmp_path / "train.tar", "w", format=form) as archive:
        for name, content in split_of("train").items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    whole = (tmp_path / "train.tar").read_bytes()
    with tarfile.open(tmp_path / "train.tar") as archive:
        headers = [member.offset for member in archive]
        end = archive.offset
    cuts = [at + more for at in headers[4::4] for more in (0, 1, 511, 512, 600)]
    for cut in [1, 512, *cuts, end - 1, end, end + 511]:
        (tmp_path / "train.tar").write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"train.tar: .* write a torn one again"):
            open_dataset(trees("tar", tmp_path))
    (tmp_path / "train.tar").write_bytes(whole[: end + 512])
    assert len(open_dataset(trees("tar", tmp_path)).train.labels) == 12


def test_a_tar_file_within_a_tar_file_is_refused_if_it_is_torn(
    tmp_path: Path, trees: Trees
) -> None:
    """The headers of the outer one follow its end."""
    tars_in_a_tar(tmp_path)
    inner = {}
    for label, files in by_class("train").items():
        content = io.BytesIO()
        write(content, files)
        inner[f"{label}.tar"] = content.getvalue()[: 2048 if label == "birch" else None]
    write(tmp_path / "train.tar", inner)
    with pytest.raises(DataError, match=r"train.tar: birch.tar in it: .*(cut off|end of data)"):
        open_dataset(trees("tar", tmp_path))


def test_a_damaged_header_is_refused(tmp_path: Path, trees: Trees) -> None:
    one_for_a_split(tmp_path)
    with tarfile.open(tmp_path / "train.tar") as archive:
        header = archive.getmembers()[5].offset
    content = bytearray((tmp_path / "train.tar").read_bytes())
    content[header + 3] ^= 1
    (tmp_path / "train.tar").write_bytes(content)
    with pytest.raises(DataError, match=rf"cut off or damaged at byte {header:,}"):
        open_dataset(trees("tar", tmp_path))


@pytest.mark.parametrize("length", [b"9" * 30, b"0"])
def test_an_extended_header_that_makes_no_sense_is_refused(
    length: bytes, tmp_path: Path, trees: Trees
) -> None:
    one_for_a_split(tmp_path)
    record = length + b" path=" + b"a" * 200 + b"\n"
    extended = tarfile.TarInfo("./PaxHeaders/x")
    extended.type, extended.size = tarfile.XHDTYPE, len(record)
    blocks = extended.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0")
    (tmp_path / "train.tar").write_bytes(blocks + (tmp_path / "train.tar").read_bytes())
    with pytest.raises(DataError, match=r"train\.tar"):
        open_dataset(trees("tar", tmp_path))


def test_tar_files_one_behind_the_other_are_refused(tmp_path: Path, trees: Trees) -> None:
    one_for_a_split(tmp_path)
    whole = (tmp_path / "train.tar").read_bytes()
    (tmp_path / "train.tar").write_bytes(whole + whole)
    with pytest.raises(DataError, match=r"its end at byte .* is followed by more"):
        open_dataset(trees("tar", tmp_path))


def pack(folder: Path, packed: Path) -> None:
    """Packs both splits with their folders, and links as links."""
    for split in COUNTS:
        with tarfile.open(packed / f"{split}.tar", "w") as archive:
            archive.add(folder / split, split)


def unpacked_equals_packed(folder: Path, packed: Path, trees: Trees, num_train: int) -> None:
    """Compares a folder with tar files of it."""
    pack(folder, packed)
    ours = open_dataset(trees("tar", packed, num_train=num_train))
    theirs = open_dataset(trees("image_folder", folder, num_train=num_train))
    assert ours.classes == theirs.classes
    assert ours.train.labels.tolist() == theirs.train.labels.tolist()
    for mine, other in ((ours.train, theirs.train), (ours.val, theirs.val)):
        count = len(mine.labels)
        assert [mine.read(i) for i in range(count)] == [other.read(i) for i in range(count)]  # type: ignore[union-attr]
    # folders are counted by the entries of their own that tar files have
    assert [kind for kind in ours.passed_over if kind != EMPTY] == list(theirs.passed_over)


def hard_links(train: Path) -> None:
    for number in (1, 2):
        (train / f"ash/ash{number}.jpg").unlink()
        os.link(train / "birch/birch1.jpg", train / f"ash/ash{number}.jpg")


def links(train: Path) -> None:
    """Relative ones, in both directions, over other folders, and a chain."""
    for path, target in {
        "ash/ash0.jpg": "../cedar/cedar0.jpg",
        "cedar/cedar1.jpg": "../ash/../birch/birch0.jpg",
        "ash/ash1.jpg": "ash2.jpg",
        "ash/ash2.jpg": "../birch/birch3.jpg",
        "birch/birch3.jpg": "../cedar/cedar3.jpg",
    }.items():
        (train / path).unlink()
        (train / path).symlink_to(target)


def linked_folders(train: Path) -> None:
    shutil.rmtree(train / "birch")
    (train / "birch").symlink_to("ash")
    (train / "cedar" / "more").symlink_to("../ash")


def links_of_links(train: Path) -> None:
    """A hard link to a link, and links through a folder that is one."""
    linked_folders(train)
    (train / "cedar/more").unlink()
    (train / "cedar/cedar0.jpg").unlink()
    (train / "cedar/cedar0.jpg").symlink_to("../birch/ash3.jpg")
    (train / "cedar/cedar1.jpg").unlink()
    os.link(train / "cedar/cedar0.jpg", train / "cedar/cedar1.jpg", follow_symlinks=False)


def to_nothing(train: Path) -> None:
    (train / "ash/out.jpg").symlink_to("../../../elsewhere/out.jpg")
    (train / "ash/absolute.jpg").symlink_to("/nowhere/at/all.jpg")
    (train / "ash/gone.jpg").symlink_to("../ash/none.jpg")


def with_long_names(train: Path) -> None:
    (train / "ash/ash0.jpg").rename(train / "ash" / ("a" * 200 + ".jpg"))
    (train / "birch/birch0.jpg").rename(train / "birch" / "été 雪.jpg")


@pytest.mark.parametrize(
    ("change", "num_train"),
    [(hard_links, 12), (links, 12), (links_of_links, 12), (to_nothing, 12), (with_long_names, 12)],
)
def test_a_folder_and_the_tar_file_of_it_hold_the_same(
    change: Callable[[Path], None], num_train: int, folder: Path, tmp_path: Path, trees: Trees
) -> None:
    change(folder / "train")
    (tmp_path / "tars").mkdir()
    unpacked_equals_packed(folder, tmp_path / "tars", trees, num_train)


def test_links_to_folders_of_a_tar_file_count_as_folders(
    folder: Path, tmp_path: Path, trees: Trees
) -> None:
    """Labels are those of the innermost folder, so that `more` is a class of its own here."""
    linked_folders(folder / "train")
    (folder / "val" / "more").symlink_to("ash")
    (tmp_path / "tars").mkdir()
    pack(folder, tmp_path / "tars")
    config = trees("tar", tmp_path / "tars", num_classes=4, num_train=16, num_val=8)
    found = open_dataset(config)
    assert found.classes == ["ash", "birch", "cedar", "more"]
    assert found.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    assert found.train.read(4) == found.train.read(12) == split_of("train")["ash/ash0.jpg"]  # type: ignore[union-attr]


def linked(target: Path, members: list[tuple[str, bytes | str, bytes]]) -> None:
    """Writes members of name, content or target, and type, in this order."""
    with tarfile.open(target, "w") as archive:
        for name, content, kind in members:
            header = tarfile.TarInfo(name)
            header.type = kind
            if isinstance(content, str):
                header.linkname = content
            else:
                header.size = len(content)
            archive.addfile(header, io.BytesIO(content if isinstance(content, bytes) else b""))


FILE, HARD, SOFT = tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE


@pytest.mark.parametrize(
    ("extra", "passed"),
    [
        ([("ash/a.jpg", "ash/b.jpg", SOFT), ("ash/b.jpg", "a.jpg", SOFT)], {DANGLING: 2}),
        ([("ash/a.jpg", "ash/a.jpg", HARD)], {DANGLING: 1}),
        ([("ash/a.jpg", "../../x.jpg", SOFT), ("ash/b.jpg", "/etc/b.jpg", HARD)], {DANGLING: 2}),
        ([("ash/in", ".", SOFT), ("ash/up", "..", SOFT)], {CIRCULAR: 2}),
        ([("ash/to", "../ash", SOFT)], {CIRCULAR: 1}),
        ([("ash/.a.jpg", "nowhere", SOFT)], {"hidden": 1}),
        ([("ash/ash0.jpg", "ash/ash0.jpg", HARD)], {}),
        ([("ash/ash0.jpg", jpeg(99), FILE)], {REPLACED: 1}),
        ([("elm", b"", tarfile.DIRTYPE)], {EMPTY: 1}),
    ],
)  # fmt: skip
def test_links_that_lead_to_no_file_and_members_that_are_replaced_are_counted(
    extra: list[tuple[str, bytes | str, bytes]],
    passed: dict[str, int],
    tmp_path: Path,
    trees: Trees,
) -> None:
    one_for_a_split(tmp_path)
    files = [(name, content, FILE) for name, content in split_of("train").items()]
    linked(tmp_path / "train.tar", [*files, *extra])
    found = open_dataset(trees("tar", tmp_path))
    assert {kind: one["count"] for kind, one in found.passed_over.items()} == passed


@pytest.mark.parametrize("order", [1, -1], ids=["backward", "forward"])
def test_links_resolve_whichever_side_of_their_target_they_are_on(
    order: int, tmp_path: Path, trees: Trees
) -> None:
    one_for_a_split(tmp_path)
    files = [(f"./train/{name}", content, FILE) for name, content in split_of("train").items()]
    hard = ("train/ash/h.jpg", "./train/birch/birch0.jpg", HARD)
    chain = [("train/ash/c.jpg", "h.jpg", SOFT), ("train/ash/d.jpg", "train/ash/c.jpg", HARD)]
    linked(tmp_path / "train.tar", [*files, hard, *chain][::order])  # type: ignore[list-item]
    images = open_dataset(trees("tar", tmp_path, num_train=15)).train
    content = {images.name(i).rpartition("/")[2]: images.read(i) for i in range(15)}  # type: ignore[union-attr]
    assert {content[name] for name in ("h.jpg", "c.jpg", "d.jpg")} == {content["birch0.jpg"]}


def test_a_member_that_is_appended_again_replaces_the_earlier_but_not_its_hard_links(
    tmp_path: Path, trees: Trees
) -> None:
    """As when GNU tar unpacks it."""
    one_for_a_split(tmp_path)
    files = [(name, content, FILE) for name, content in split_of("train").items()]
    again = [("ash/old.jpg", "ash/ash0.jpg", HARD), ("ash/ash0.jpg", jpeg(99), FILE)]
    linked(tmp_path / "train.tar", [*files, *again])  # type: ignore[list-item]
    images = open_dataset(trees("tar", tmp_path, num_train=13)).train
    content = {images.name(i).rpartition("/")[2]: images.read(i) for i in range(13)}  # type: ignore[union-attr]
    assert content["old.jpg"] == split_of("train")["ash/ash0.jpg"]
    assert content["ash0.jpg"] == jpeg(99)


def test_a_file_that_is_stored_without_its_zeros_is_refused(tmp_path: Path, trees: Trees) -> None:
    one_for_a_split(tmp_path)
    (tmp_path / "images" / "ash").mkdir(parents=True)
    with (tmp_path / "images" / "ash" / "hole.ppm").open("wb") as file:
        file.truncate(1 << 20)
    version = subprocess.run(["tar", "--version"], capture_output=True, text=True).stdout
    if "GNU tar" not in version:
        pytest.skip("only GNU tar writes such files")
    for form in ("gnu", "pax"):
        arguments = ["tar", "-S", f"--format={form}", "-cf", tmp_path / "train.tar"]
        subprocess.run([*arguments, "-C", tmp_path / "images", "ash"], check=True)
        with pytest.raises(DataError, match=r"hole.ppm is a sparse file"):
            open_dataset(trees("tar", tmp_path))


def test_a_tar_file_that_is_added_later_is_seen(tmp_path: Path, trees: Trees) -> None:
    one_for_a_class(tmp_path)
    before = open_dataset(trees("tar", tmp_path))
    for path in [*tmp_path.rglob("*"), tmp_path]:
        os.utime(path, (1_000_000, 1_000_000))
    write(tmp_path / "train" / "elm.tar", {"elm0.jpg": jpeg(7)})
    write(tmp_path / "val" / "elm.tar", {"elm0.jpg": jpeg(8)})
    after = open_dataset(trees("tar", tmp_path, num_classes=4, num_train=13, num_val=7))
    assert (len(before.classes), len(after.classes)) == (3, 4)


def test_a_compressed_tar_file_is_named_where_a_plain_one_is_missing(
    tmp_path: Path, trees: Trees
) -> None:
    write(tmp_path / "train.tar.gz", split_of("train"), mode="w:gz")
    with pytest.raises(DataError, match=r"neither .*, only train.tar.gz: unpack it; set IMAGENET="):
        open_dataset(trees("tar", tmp_path))


@pytest.mark.parametrize("seed", range(4))
def test_a_tar_file_with_changed_headers_is_listed_or_refused(
    seed: int, tmp_path: Path, trees: Trees
) -> None:
    """Whatever its names, sizes, types and links say; their checksums are right."""
    one_for_a_split(tmp_path)
    links: list[tuple[str, bytes | str, bytes]] = [
        ("ash/s.jpg", "../birch/birch0.jpg", SOFT),
        ("ash/h.jpg", "birch/birch1.jpg", HARD),
    ]
    files = [(name, content, FILE) for name, content in split_of("train").items()]
    linked(tmp_path / "train.tar", [*files, *links])
    whole = (tmp_path / "train.tar").read_bytes()
    with tarfile.open(tmp_path / "train.tar") as archive:
        headers = [member.offset for member in archive]
    generator = np.random.default_rng(seed)
    for _ in range(40):
        content = bytearray(whole)
        start = int(generator.choice(headers))
        for place in generator.integers(0, 512, 4):
            content[start + place] = generator.integers(0, 256)
        header = content[start : start + 512]
        checksum = sum(header[:148]) + 8 * ord(" ") + sum(header[156:])
        content[start + 148 : start + 156] = b"%06o\0 " % checksum
        (tmp_path / "train.tar").write_bytes(content)
        with contextlib.suppress(DataError):
            images = open_dataset(trees("tar", tmp_path, num_train=14)).train
            assert len([images.read(i) for i in range(14)]) == 14  # type: ignore[union-attr]
