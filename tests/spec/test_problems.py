from __future__ import annotations

from pathlib import Path

import pytest

from antioversmooth import spec
from antioversmooth.config.types import type_hints
from antioversmooth.errors import SpecError, did_you_mean, there_are
from antioversmooth.spec import fields
from antioversmooth.spec.problems import WIDEST, Place, Problem, alike


def test_a_problem_reads_like_a_compilers_message() -> None:
    place = Place("experiments/row.yaml", 12, 3, "  dept: 13", 4)
    assert (
        str(Problem(place, "model.dept", "there is no such key", ("depth: Blocks.",)))
        == "experiments/row.yaml:12:3: model.dept: there is no such key\n"
        "    12 |   dept: 13\n"
        "       |   ^^^^\n"
        "       = depth: Blocks."
    )


def test_an_override_is_quoted_with_carets_under_its_value(
    experiments: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(experiments.parent)
    with pytest.raises(SpecError) as caught:
        spec.load([Path("experiments/deit_s12.yaml")], ["recipe.epochs=x"])
    assert (
        str(caught.value)
        == "command line: recipe.epochs: 'x' is not a whole number\n       | recipe.epochs=x\n     "
        "  |               ^\n       = epochs: Passes over the training set; 0 evaluates"
        " `init_from` and trains nothing.\n       = in experiments/deit_s12.yaml"
    )


def test_both_sides_of_a_contradiction_are_shown(
    experiments: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(experiments.parent)
    with pytest.raises(SpecError) as caught:
        spec.load([Path("experiments/deit_s12.yaml")], ["recipe.epochs=3"])
    shown = str(caught.value).splitlines()
    assert shown[0].startswith("experiments/recipe/imagenet/deit_12.yaml:")
    assert shown[1].endswith("| warmup_epochs: 5")
    assert "       = recipe.epochs is set here: command line, recipe.epochs=3" in shown


@pytest.mark.parametrize("column", [1, 60, 500, 1000])
def test_a_long_line_is_cut_around_its_caret(column: int) -> None:
    text = "x" * (column - 1) + "!" + "x" * (1000 - column)
    line, carets = Place("f", 1, column, text).quoted().splitlines()
    assert line[carets.index("^")] == "!"
    assert len(line) <= WIDEST + len("     1 | ")


def test_a_quoted_line_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in Place("f", 1, 1, "a\x1b[2Jb").quoted()


@pytest.mark.parametrize(
    ("key", "known", "close"),
    [
        ("dept", ["depth", "num_heads"], ["depth"]),
        ("batch_size", ["base_lr", "global_batch"], ["global_batch"]),
        ("num_head", ["num_heads", "num_train"], ["num_heads"]),
        ("colour", ["depth"], []),
    ],
)
def test_a_key_is_met_with_those_that_it_may_stand_for(
    key: str, known: list[str], close: list[str]
) -> None:
    assert alike(key, known) == close


def test_names_of_elsewhere_lead_to_keys_that_there_are() -> None:
    ours = {name for section in fields.sections().values() for name in type_hints(section)}
    assert set(fields.ALIASES.values()) <= ours
    assert not set(fields.ALIASES) & ours


def test_where_no_name_is_alike_all_are_listed() -> None:
    assert did_you_mean("small", ["imagenet", "mini"]) == "there are imagenet, mini"
    assert did_you_mean("small", []) == "there is none"


def test_of_many_names_only_the_nearest_are_told() -> None:
    many = [f"choice_{i}" for i in range(40)] + ["momentum"]
    told = there_are(many, "moment")
    assert told.startswith("there are 41, nearest to it momentum, ")
    assert told.count(",") == 4
    assert there_are(["a", "b"], "moment") == "there are a, b"


def test_the_message_on_a_file_without_its_first_line_quotes_that_line(
    copy: Path,
) -> None:
    (copy / "method" / "mine.yaml").write_text("method: gfsa\n")
    said = r"begin .*method/mine\.yaml with the line `# @package model`"
    with pytest.raises(SpecError, match=said):
        spec.load([copy / "deit_s12.yaml"], ["method=mine"])
