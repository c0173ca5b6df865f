"""The corpus: every bad spec of bad/ is refused with its own problems, each at its place, and with
no others."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from antioversmooth import spec
from antioversmooth.errors import SpecError

BAD = Path(__file__).parent / "bad"
EXPECTED = yaml.safe_load((BAD / "expected.yaml").read_text())
OVERRIDES = yaml.safe_load((BAD / "overrides.yaml").read_text())
HOME = {"rows": ".", "tables": "tables", "figures": "figures", "recipes": "recipe/imagenet"}
"""Where in the experiments folder each kind of spec lies."""


def load(path: Path, experiments: Path) -> None:
    """Loads a bad spec of the kind that its folder says; a recipe is loaded as part of a row."""
    kind = path.parent.name
    placed = experiments / HOME[kind] / path.name
    placed.parent.mkdir(exist_ok=True)
    shutil.copy(path, placed)
    if kind == "figures":
        spec.load_figure(placed)
    elif kind == "recipes":
        spec.load([experiments / "deit_s12.yaml"], [f"recipe=imagenet/{path.stem}"])
    else:
        spec.load([placed])


def first_lines(error: SpecError) -> list[str]:
    """Of each problem; what belongs to it is indented."""
    return [line for line in str(error).splitlines() if not line.startswith("   ")]


def assert_these_and_no_others(error: SpecError, begins: list[str]) -> None:
    found = first_lines(error)
    assert [line[: len(begin)] for line, begin in zip(found, begins, strict=False)] == begins, str(
        error
    )
    assert len(found) == len(begins), str(error)


def test_every_bad_spec_says_what_is_expected_of_it() -> None:
    assert sorted(EXPECTED) == sorted(
        f"{path.parent.name}/{path.stem}" for path in BAD.glob("*/*.yaml")
    )


@pytest.mark.parametrize("name", EXPECTED)
def test_a_bad_spec_is_refused_with_all_its_problems(name: str, copy: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load(BAD / f"{name}.yaml", copy)
    assert_these_and_no_others(caught.value, EXPECTED[name])


@pytest.mark.parametrize("case", OVERRIDES, ids=lambda case: " ".join(case["given"]))
def test_a_bad_override_is_refused_with_all_its_problems(case: dict[str, Any], copy: Path) -> None:
    with pytest.raises(SpecError) as caught:
        spec.load([copy / "deit_s12.yaml"], case["given"])
    assert_these_and_no_others(caught.value, case["problems"])


def test_an_override_that_is_wrong_in_every_row_of_a_table_is_said_once(copy: Path) -> None:
    with pytest.raises(SpecError) as caught:
        spec.load([copy / "tables" / "table2.yaml"], ["recipe.epochs=many"])
    assert first_lines(caught.value) == [
        "command line: recipe.epochs: 'many' is not a whole number"
    ]
    assert str(caught.value).endswith("= in experiments/deit_s12.yaml and 11 more")


def test_a_mistake_in_a_figure_of_a_table_is_said_before_the_rows_are_run(copy: Path) -> None:
    figure = copy / "figures" / "similarity_deit_s24.yaml"
    figure.write_text(figure.read_text() + "captoin: typo\n")
    with pytest.raises(
        SpecError, match=r"figures/similarity_deit_s24\.yaml:.*did you mean `caption`"
    ) as caught:
        spec.load([copy / "tables" / "table2.yaml"], ["profile=mini"])
    assert len(first_lines(caught.value)) == 1


def test_problems_of_several_specs_come_in_one_error(copy: Path) -> None:
    (copy / "one.yaml").write_text((copy / "deit_s12.yaml").read_text() + "  dept: 1\n")
    (copy / "two.yaml").write_text((copy / "deit_s12.yaml").read_text() + "  num_heads: 5\n")
    with pytest.raises(SpecError) as caught:
        spec.load([copy / "one.yaml", copy / "two.yaml", copy / "three.yaml"])
    assert [line.split(": ")[0].partition(":")[0] for line in first_lines(caught.value)] == [
        str(copy / "three.yaml"), "experiments/one.yaml", "experiments/two.yaml",
    ]  # fmt: skip


def test_a_value_from_the_environment_is_not_shown(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_TOKEN", "s3cret")
    with pytest.raises(SpecError, match="resolves to a value that does not fit") as caught:
        spec.load([copy / "deit_s12.yaml"], ["recipe.epochs=${oc.env:A_TOKEN}"])
    assert "s3cret" not in str(caught.value)


def test_no_command_of_a_tag_is_run(copy: Path) -> None:
    touched = copy / "touched"
    head = (copy / "deit_s12.yaml").read_text().split("title:")[0]
    (copy / "evil.yaml").write_text(
        f'{head}title: !!python/object/apply:os.system ["touch {touched}"]\n'
    )
    with pytest.raises(SpecError, match="without tags"):
        spec.load([copy / "evil.yaml"])
    assert not touched.exists()


@pytest.mark.parametrize(
    "text",
    ["", "- model", "defaults:\n\t- schema\n", "defaults: [schema", "defaults: 3\n"],
    ids=["empty", "a list", "a tab", "unclosed", "no list of defaults"],
)
def test_a_row_that_cannot_be_read_has_one_problem_beside_overrides_of_groups(
    text: str, copy: Path
) -> None:
    path = copy / "unreadable.yaml"
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        spec.load([path], ["profile=mini", "method=gfsa"])
    assert len(first_lines(caught.value)) == 1, str(caught.value)
