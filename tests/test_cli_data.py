"""`antioversmooth data`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from antioversmooth import cli

COUNTS = (
    "data.num_classes=2",
    "data.num_train=4",
    "data.num_val=2",
    "recipe.global_batch=2",
    "recipe.mix_group=2",
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
    assert "mnist_5k.csv.gz\nfingerprint" in capsys.readouterr().out
    assert cli.main(["data", "table2", "profile=mini", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["fingerprint"].startswith("846f6cad")
