from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from antioversmooth import cli, spec
from antioversmooth.errors import SpecError
from antioversmooth.spec.draft import draft


def test_a_new_row_is_the_old_one_under_its_own_name(copy: Path) -> None:
    path = draft("deit_s12_wide", copy / "deit_s12_featscale.yaml")
    old, new = (
        spec.load_experiment(copy / f"{name}.yaml")
        for name in ("deit_s12_featscale", "deit_s12_wide")
    )
    assert path == copy / "deit_s12_wide.yaml"
    assert new == dataclasses.replace(old, name="deit_s12_wide", title="deit_s12_wide")


def test_its_head_claims_no_number_and_shows_its_own_command(copy: Path) -> None:
    head = draft("mine", copy / "deit_s12_featscale.yaml").read_text().split("defaults:")[0]
    assert head.splitlines() == [
        "# mine: deit_s12_featscale, changed",
        "# Expected: no number is known; see deit_s12_featscale for the row it started from",
        "# Cost: about 40 A100-hours (estimate: FLOPs at 35% of 312 TFLOP/s)",
        "# Run: python launch.py experiments/mine.yaml --nodes 2",
        "#      python launch.py experiments/mine.yaml profile=mini      (minutes, on a laptop)",
    ]


def test_the_head_of_no_new_row_keeps_the_further_lines_of_what_it_replaces(copy: Path) -> None:
    kept = ("# Expected: no number is known; see ", "# Cost: ", "# Run: ", "#      ", "# Weights: ")
    for origin in sorted(copy.glob("*.yaml")):
        first, *rest = draft("mine", origin).read_text().split("defaults:")[0].splitlines()
        assert first == f"# mine: {origin.stem}, changed"
        assert all(line.startswith(kept) for line in rest), (origin.stem, rest)
        (copy / "mine.yaml").unlink()


def test_a_row_that_is_there_stays_as_it_is(copy: Path) -> None:
    before = (copy / "deit_s24.yaml").read_bytes()
    with pytest.raises(SpecError, match=r"deit_s24\.yaml: there is a row of that name already"):
        draft("deit_s24", copy / "deit_s12.yaml")
    assert (copy / "deit_s24.yaml").read_bytes() == before


@pytest.mark.parametrize("name", ["../outside", "Mine", "with space", "", "a.yaml", "-x"])
def test_a_name_that_no_row_can_have_is_refused(copy: Path, name: str) -> None:
    before = sorted(copy.parent.rglob("*"))
    with pytest.raises(SpecError, match="small letters, digits and _"):
        draft(name, copy / "deit_s12.yaml")
    assert sorted(copy.parent.rglob("*")) == before


def test_the_command_names_the_file_that_it_wrote(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["new", "mine", "--from", "deit_s12"]) == 0
    assert capsys.readouterr().out.strip().endswith("experiments/mine.yaml")
    assert cli.main(["new", "mine", "--from", "table2"]) == 2
    assert "starts from a row" in capsys.readouterr().err
