"""The deviations that a table notes, and their rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from antioversmooth import spec
from antioversmooth.methods import method_of
from antioversmooth.reporting.table import deviations


def notes(experiments: Path, row: str, *overrides: str) -> str:
    return " ".join(
        deviations.notes([spec.load_experiment(experiments / f"{row}.yaml", overrides)])
    )


@pytest.mark.parametrize(
    ("row", "overrides", "found"),
    [
        ("deit_s12_featscale", [], "released code's, 1 + 2s and 1 + 2t (deit_s12_featscale)."),
        ("deit_s12_featscale", ["model.scaling_variant=paper"], "the paper's, 1 + s and 1 + t"),
        ("deit_s12_attnscale", [], "includes the class token, as released"),
        ("deit_s12_attnscale", ["model.class_token_in_mean=false"], "leaves the class token out"),
        ("swin_s_attnscale", [], "masked pairs of shifted windows too, as released"),
        ("swin_s_attnscale", ["model.mask_aware=true"], "leaves masked pairs"),
        (
            "swin_s",
            [],
            "in the released code for a device's whole batch (swin_s).",
        ),
        ("deit_s12", [], "500 epochs, where published DeiT baselines have 300 (deit_s12)."),
        (
            "deit_s12_attnscale",
            ["recipe.method_lr_factor=30"],
            "The learning rate of the method's parameters is 30 times that of the others",
        ),
        (
            "deit_s12",
            ["data.cache=256", "data.cache_root=/caches"],
            "cut out of images that were resized before, to a short side of 256 pixels (at 256",
        ),
        (
            "deit_s12",
            ["recipe.policy=fast"],
            "by the fast policy, whose pixels are near those of the exact one (views of 500 x 375",
        ),
        (
            "deit_s12",
            ["recipe.policy=fast", "recipe.rand_augment=null"],
            "by the fast policy, whose pixels are near those of the exact one (deit_s12).",
        ),
        (
            "deit_s12",
            ["recipe.policy=fast", "data.cache=256", "data.cache_root=/caches"],
            "RandAugment moves the nearest pixels, by the fast policy (views of 500 x 375",
        ),
        ("cait_s24_featscale", [], "Starts from timm:cait_s24_224.fb_dist_in1k, a distilled model"),
        (
            "eval_released_swin_s",
            ["profile=mini"],
            "Evaluates the weights of swin_s in this profile",
        ),
    ],
)
def test_the_notes_state_a_rows_deviation(
    experiments: Path, row: str, overrides: list[str], found: str
) -> None:
    assert found in notes(experiments, row, *overrides)


@pytest.mark.parametrize(
    ("row", "overrides"),
    [
        ("deit_s12", ["recipe=imagenet/deit_12_300", "recipe.mix_prob=0"]),
        ("deit_s12", ["profile=mini"]),
        ("deit_s12", ["profile=mini", "recipe.policy=fast"]),
        ("deit_s12", ["profile=mini", "recipe.method_lr_factor=30"]),
        ("cait_s24_featscale", ["profile=mini", "recipe.method_lr_factor=1"]),
        ("swin_s_featscale", ["recipe.mix_prob=0"]),
    ],
)
def test_the_notes_omit_deviations_of_other_rows(
    experiments: Path, row: str, overrides: list[str]
) -> None:
    assert notes(experiments, row, *overrides) == ""


def test_rows_with_the_same_deviation_share_a_sentence(experiments: Path) -> None:
    request = spec.load([experiments / "tables" / "released.yaml"])
    found = deviations.notes(request.experiments)
    forms = [note for note in found if note.startswith("FeatScale's form")]
    assert len(forms) == 2
    assert sum("includes the class token" in note for note in found) == 1


def test_a_deviation_of_most_rows_names_the_others(experiments: Path) -> None:
    found = deviations.notes(spec.load([experiments / "tables" / "table2.yaml"]).experiments)
    assert any(
        note.endswith("for a device's whole batch (all rows but cait_s24).") for note in found
    )
    trained = [spec.load_experiment(experiments / f"{row}.yaml") for row in ("deit_s12", "swin_s")]
    assert deviations.notes(trained)[0].endswith("for a device's whole batch (all rows).")


LEDGER = {
    "FeatScale's form on DeiT": "counts its terms twice",
    "DeiT's mean over tokens": "means run over the class token",
    "Swin's AttnScale": "masked pairs of shifted windows included",
    "500 epochs": "500 epochs for DeiT",
    "Mixup and CutMix": "Mixup and CutMix",
    "Starts from": "CaiT's starting point",
}
"""The beginning of each note, and its line in docs/fidelity.md."""


def lines(experiments: Path) -> list[list[str]]:
    """The cells of the ledger's lines."""
    text = (experiments.parent / "docs" / "fidelity.md").read_text()
    text, _, _ = text.partition("## Repeated augmentation and mixing")
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows if row[1].strip() != "what"]


def test_the_ledger_marks_the_deviations_of_tables_and_no_others(experiments: Path) -> None:
    rows = [path.stem for path in experiments.glob("*.yaml")]
    found = {
        note
        for row in rows
        for note in deviations.notes([spec.load_experiment(experiments / f"{row}.yaml")])
    }
    marked = [row[1] for row in lines(experiments) if row[0] == "●"]
    of_methods = tuple(_said_by_methods(experiments, rows))
    for note in found:
        if note.startswith(of_methods):
            continue
        (line,) = {line for start, line in LEDGER.items() if note.startswith(start)}
        assert sum(line in row for row in marked) == 1, note
    assert len(marked) == len(LEDGER)


def _said_by_methods(experiments: Path, rows: list[str]) -> Iterator[str]:
    """Sentences of the methods of rows; the page of each method, which is there, explains them."""
    for row in rows:
        model = spec.load_experiment(experiments / f"{row}.yaml").model
        method = method_of(model)
        sentences = list(method.sentences(model.family)) if method else []
        if method and sentences:
            page = experiments.parent / "docs" / "methods" / f"{method.name}.md"
            assert page.is_file()
        yield from sentences


def test_every_line_of_the_ledger_names_rows_that_exist(experiments: Path) -> None:
    rows = [path.stem for path in experiments.glob("*.yaml")]
    for line in lines(experiments):
        assert len(line) == 6, line
        for pattern in re.findall("`([^`]+)`", line[-1]):
            assert any(fnmatch(row, pattern) for row in rows), pattern
