"""Which departures a table names for which rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from antioversmooth import spec
from antioversmooth.reporting import deviations


def notes(experiments: Path, row: str, *overrides: str) -> str:
    return " ".join(deviations.notes([spec.load_experiment(experiments / f"{row}.yaml", overrides)]))


@pytest.mark.parametrize(
    ("row", "overrides", "said"),
    [
        ("deit_s12_featscale", [], "released code's, 1 + 2s and 1 + 2t (deit_s12_featscale)."),
        ("deit_s12_featscale", ["model.scaling_variant=paper"], "the paper's, 1 + s and 1 + t"),
        ("deit_s12_attnscale", [], "includes the class token, as released"),
        ("deit_s12_attnscale", ["model.class_token_in_mean=false"], "leaves the class token out"),
        ("swin_s_attnscale", [], "masked pairs of shifted windows too, as released"),
        ("swin_s_attnscale", ["model.mask_aware=true"], "leaves masked pairs"),
        ("deit_s12", [], "500 epochs, where published DeiT baselines have 300 (deit_s12)."),
        ("cait_s24_featscale", [], "Starts from timm:cait_s24_224.fb_dist_in1k, a distilled model"),
    ],
)
def test_a_rows_deviation_is_said(experiments: Path, row: str, overrides: list[str], said: str) -> None:
    assert said in notes(experiments, row, *overrides)


@pytest.mark.parametrize(
    ("row", "overrides"),
    [
        ("deit_s12", ["recipe=imagenet/deit_12_300"]),
        ("deit_s12", ["profile=mini"]),
        ("cait_s24_featscale", ["profile=mini"]),
        ("swin_s_featscale", []),
    ],
)
def test_what_does_not_concern_a_row_is_not_said(experiments: Path, row: str, overrides: list[str]) -> None:
    assert notes(experiments, row, *overrides) == ""


def test_rows_with_the_same_deviation_share_a_sentence(experiments: Path) -> None:
    request = spec.load([experiments / "tables" / "released.yaml"])
    said = deviations.notes(request.experiments)
    forms = [note for note in said if note.startswith("FeatScale's form")]
    assert len(forms) == 2
    assert sum("includes the class token" in note for note in said) == 1
