"""`antioversmooth data`."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from antioversmooth import cli

COUNTS = (
    "data.num_classes=2",
    "data.num_train=4",
    "data.num_val=2",
    "recipe.global_batch=2",
    "recipe.mix_group=2",
    "recipe.min_lr=0",
)


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    for name in (
        "train/ash/1",
        "train/ash/2",
        "train/birch/3",
        "train/birch/4",
        "val/ash/5",
        "val/birch/6",
    ):
        path = tmp_path / "trees" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "trees"


def test_counts_are_printed_and_compared_with_the_spec(
    trees: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["data", "deit_s12", f"data.root={trees}", *COUNTS]
    assert cli.main(given) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[:5] == [
        "name         ImageNet-1k",
        f"root         {trees}",
        "num_classes  2",
        "num_train    4",
        "num_val      2",
    ]
    fingerprint = printed.split()[-1]
    assert cli.main([*given, f"data.fingerprint={fingerprint}"]) == 0
    (trees / "val" / "ash" / "5.jpg").rename(trees / "val" / "ash" / "7.jpg")
    capsys.readouterr()
    assert cli.main([*given, f"data.fingerprint={fingerprint}"]) == 2
    printed = capsys.readouterr()
    assert "num_val      2" in printed.out
    assert f"data.fingerprint: the spec says '{fingerprint}'" in printed.err


def test_a_set_of_a_package_is_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "deit_s12", "profile=mini"]) == 0
    assert "mnist_5k.csv.gz\nnum_" in capsys.readouterr().out
    assert cli.main(["data", "table2", "profile=mini", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["fingerprint"].startswith("846f6cad")


def encoded(form: str, mode: str = "RGB", side: int = 8) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(side).integers(0, 256, (side, side + 2, 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(file, form)
    return file.getvalue()


@pytest.fixture
def pictures(trees: Path) -> Path:
    """The trees, with a content that can be decoded."""
    for number, path in enumerate(sorted(trees.rglob("*.jpg"))):
        path.write_bytes(encoded("JPEG", "L" if number == 0 else "RGB", side=8 + number))
    return trees


def test_a_set_whose_images_all_decode_passes(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "val" / "ash" / "5.jpg").write_bytes(encoded("PNG", "RGBA", side=20))
    assert cli.main(["data", "deit_s12", f"data.root={pictures}", *COUNTS, "--decode"]) == 0
    assert capsys.readouterr().out.splitlines()[6:] == [
        "decoded      6 images",
        "kinds        4 JPEG RGB, 1 JPEG L, 1 PNG RGBA",
        "sizes        6, from 10 x 8 to 22 x 20 pixels",
        "damaged      0",
    ]


def test_every_damaged_image_is_named_with_its_reason(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = {
        "train/ash/1.jpg": (b"", "not the beginning of a JPEG"),
        "train/birch/4.jpg": (encoded("PNG", side=64)[:-500], "OSError"),
        "val/birch/6.jpg": (encoded("ICO", side=32), "not the beginning of a JPEG"),
    }
    for name, (content, _) in damaged.items():
        (pictures / name).write_bytes(content)
    given = ["data", "deit_s12", f"data.root={pictures}", *COUNTS, "--decode"]
    assert cli.main(given) == 1
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("damaged      3") + 1
    for line, (name, (_, reason)) in zip(lines[start:], damaged.items(), strict=False):
        assert line.startswith(f"{pictures / name}: ")
        assert reason in line
    assert "data.max_corrupt=3" in lines[-1]
    assert cli.main([*given, "--json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["decoded"]["images"], found["decoded"]["max_corrupt"]) == (6, 3)
    assert list(found["decoded"]["damaged"]) == [str(pictures / name) for name in damaged]


def test_a_set_of_arrays_has_nothing_to_decode(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "deit_s12", "profile=mini", "--decode"]) == 0
    assert "the pixels are stored as arrays" in capsys.readouterr().out


def test_other_counts_than_the_specs_are_said_before_anything_is_decoded(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["data", "deit_s12", f"data.root={pictures}", *COUNTS[:2], *COUNTS[3:], "--decode"]
    assert cli.main(given) == 2
    printed = capsys.readouterr()
    assert "data.num_val: the spec says 50000" in printed.err
    assert "decoded" not in printed.out


def test_files_that_are_passed_over_are_printed(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "train" / "ash" / ".DS_Store").touch()
    (pictures / "train" / "ash" / "labels.txt").touch()
    given = ["data", "deit_s12", f"data.root={pictures}", *COUNTS]
    assert cli.main(given) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("passed_over  1 ")
    assert "1 hidden (train/ash/.DS_Store)" in line
    assert "1 .txt (train/ash/labels.txt)" in line
    assert cli.main([*given, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["passed_over"]["hidden"] == {"count": 1, "examples": ["train/ash/.DS_Store"]}
