"""The table of docs/training.md, from which a reader of the paper takes a recipe's numbers, against
the recipes."""

from __future__ import annotations

from pathlib import Path

import pytest

from antioversmooth import runs, spec

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
RECIPES = ("deit_12", "deit_24", "cait_finetune", "swin")


def documented() -> dict[str, dict[str, str]]:
    """Values of each field by recipe, as the page has them; `same` stands for the column before."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    start = next(
        i for i, line in enumerate(lines) if all(f"`{recipe}`" in line for recipe in RECIPES)
    )
    found = {}
    for line in lines[start + 2 : start + 2 + 40]:
        field, *values = (cell.strip() for cell in line.strip("|").split(" | ")[: 1 + len(RECIPES)])
        if not field.startswith("`") or len(values) < len(RECIPES):
            break
        for index, value in enumerate(values):
            values[index] = values[index - 1] if value == "same" else value
        found[field] = dict(zip(RECIPES, values, strict=True))
    return found


PAGE_VALUES = documented()
SINGLE = [field for field in PAGE_VALUES if "," not in field and field != "`init_from`"]


def values_of(recipe: str, experiments: Path) -> dict[str, object]:
    start = (
        ["recipe.init_from='timm:cait_s24_224.fb_dist_in1k'"] if recipe == "cait_finetune" else []
    )
    row = spec.load_experiment(experiments / "deit_s12.yaml", [f"recipe=imagenet/{recipe}", *start])
    plain: dict[str, object] = runs.to_json(row.recipe)
    return plain


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_page_says_what_a_recipe_does(recipe: str, experiments: Path) -> None:
    recipe_values = values_of(recipe, experiments)
    assert len(SINGLE) >= 13
    for field in SINGLE:
        said, value = PAGE_VALUES[field][recipe], recipe_values[field.strip("`")]
        expected = {"none": None}.get(said, said)
        assert (
            str(value) == expected or value == expected or float(str(value)) == float(str(expected))
        ), field


@pytest.mark.parametrize("recipe", RECIPES)
def test_and_where_it_says_two_in_one_line(recipe: str, experiments: Path) -> None:
    found = values_of(recipe, experiments)
    pairs = {
        "`min_lr`, `warmup_lr`": ("min_lr", "warmup_lr"),
        "`mixup`, `cutmix`, switch": ("mixup", "cutmix", "mix_switch_prob"),
    }
    for line, fields in pairs.items():
        said = [float(number) for number in PAGE_VALUES[line][recipe].split(",")]
        assert said == [found[field] for field in fields], line
    augment, erasing = PAGE_VALUES["`rand_augment`, `random_erasing`"][recipe].split(", ")
    assert (found["rand_augment"], found["random_erasing"]) == (
        augment,
        float(erasing.removesuffix(" pixel")),
    )


def test_the_shorter_recipes_differ_in_their_length_alone(experiments: Path) -> None:
    """The released code trains 500 epochs; the DeiT paper, and so its published numbers, 300."""
    for depth in (12, 24):
        long, short = (values_of(f"deit_{depth}{suffix}", experiments) for suffix in ("", "_300"))
        assert {key for key in long if long[key] != short[key]} == {"epochs"}
        assert (long["epochs"], short["epochs"]) == (500, 300)
