"""Rules of config/: one declaration gives the check, the message and the JSON Schema."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from antioversmooth import constraints, spec
from antioversmooth.config import Family, ModelConfig, PaperValue, RecipeConfig
from antioversmooth.config.rules import Config
from antioversmooth.constraints import Constraint
from antioversmooth.errors import SpecError

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.mark.parametrize(
    ("constraint", "right", "wrong"),
    [
        (constraints.at_least(1), [1, 2.5], [0, 0.99, -1]),
        (constraints.above(0), [1e-9, 3], [0, -1]),
        (constraints.below(1), [0.999, -2], [1, 1.5]),
        (constraints.at_most(1), [1, 0], [1.001]),
        (constraints.between(0, 1), [0, 0.5, 1], [-0.1, 1.1]),
        (constraints.one_of("a", "b"), ["a", "b"], ["c", "ab", ""]),
        (constraints.matches("a|bc", "a or bc"), ["a", "bc"], ["ab", "c", "abc", ""]),
        (constraints.one_line(), ["", "one line"], ["two\nlines", "a\rb"]),
        (constraints.not_blank("text"), ["x", " x "], ["", "  "]),
        (constraints.of_length(2), [[1, 2]], [[], [1], [1, 2, 3]]),
        (constraints.not_empty("row"), [[0]], [[]]),
        (constraints.distinct("layer"), [[], [1, 2]], [[1, 2, 1]]),
    ],
    ids=lambda value: value.expected if isinstance(value, Constraint) else "",
)
def test_the_check_and_the_json_schema_of_a_constraint_agree(
    constraint: Constraint, right: list[Any], wrong: list[Any]
) -> None:
    valid = Draft7Validator(constraint.keywords).is_valid
    assert [(constraint.holds(value), valid(value)) for value in right] == [(True, True)] * len(
        right
    )
    assert [(constraint.holds(value), valid(value)) for value in wrong] == [(False, False)] * len(
        wrong
    )


def test_a_config_names_every_key_that_breaks_a_rule() -> None:
    with pytest.raises(SpecError) as caught:
        RecipeConfig(epochs=2, global_batch=96, base_lr=0, betas=[0.9, 1.0], clip_grad=-1)
    assert [(part.keys, part.message) for part in caught.value.parts] == [
        (("recipe.base_lr",), "0 is not possible: above 0 and at most 1000"),
        (
            ("recipe.warmup_epochs", "recipe.epochs"),
            "5.0 is not possible: between 0 and recipe.epochs = 2",
        ),
        (("recipe.betas[1]",), "1.0 is not possible: at least 0 and below 1"),
        (("recipe.clip_grad",), "-1 is not possible: above 0, or null"),
    ]


def test_a_rule_is_not_asked_where_a_key_that_it_reads_is_wrong_by_itself() -> None:
    with pytest.raises(SpecError) as caught:
        ModelConfig(
            family=Family.vit, depth=1, embed_dim=0, num_heads=0, image_size=10, patch_size=3
        )
    assert [part.where for part in caught.value.parts] == [
        "model.embed_dim",
        "model.num_heads",
        "model.image_size",
    ]


def test_a_config_by_itself_names_its_section() -> None:
    with pytest.raises(SpecError, match=r"^paper\.confidence: 'X' is not possible: one of V, Q"):
        PaperValue(top1=80.0, source="S", confidence="X")


class Recorder:
    """A config that notes which of its fields are read."""

    def __init__(self, config: Config, key: str, read: set[str]) -> None:
        vars(self).update(config=config, key=key, read=read)

    def __getattr__(self, name: str) -> Any:
        if name not in {field.name for field in dataclasses.fields(self.config)}:
            # a property or a method, whose reads count too
            return getattr(type(self.config), name).__get__(self)
        dotted = f"{self.key}.{name}" if self.key else name
        value = getattr(self.config, name)
        if isinstance(value, Config):
            return Recorder(value, dotted, self.read)
        self.read.add(dotted)
        if isinstance(value, list):
            return [
                Recorder(one, f"{dotted}[]", self.read) if isinstance(one, Config) else one
                for one in value
            ]
        return value


def test_rules_read_only_the_keys_that_they_name() -> None:
    """A rule is left out where a key that it reads has no value; it must not meet such a key."""
    request = spec.load([EXPERIMENTS / "tables" / "table2.yaml"])
    figures = [spec.load_figure(path)[0] for path in (EXPERIMENTS / "figures").glob("[bhs]*.yaml")]
    tops = [*request.experiments, *request.tables, *figures]
    parts = [
        part for top in tops for part in (top, *vars(top).values()) if isinstance(part, Config)
    ]
    asked = 0
    for part in parts:
        for rule in part.rules():
            read: set[str] = set()
            assert list(rule(Recorder(part, "", read))) == []
            assert read <= set(vars(rule)["reads"]), rule
            asked += 1
    assert asked > 100


@pytest.mark.parametrize(
    ("overrides", "changes"),
    [
        ([], False),
        (["profile=mini", "cluster=example_site", "cluster.nodes=2", "runtime.workers=2"], False),
        (["data.root=/x", "data.max_corrupt=3", "title=T", "+cluster.sbatch.comment=x"], False),
        (["recipe.epochs=301"], True),
        (["profile=mini", "revision=2"], True),
        (["model=imagenet/deit_s24"], True),
        (["data.num_classes=10"], True),
    ],
)
def test_a_request_says_whether_its_overrides_change_the_identity(
    overrides: list[str], changes: bool
) -> None:
    assert spec.load([EXPERIMENTS / "deit_s12.yaml"], overrides).changes_identity is changes


@pytest.mark.parametrize(
    ("row", "overrides", "expected"),
    [
        ("deit_s12", [], "at least 32 (recipe.mix_group), or 0"),
        (
            "deit_s12_reattention",
            ["model.method_options.group=64"],
            "at least 64 (recipe.mix_group and model.method_options.group), or 0",
        ),
    ],
)
def test_a_pass_that_holds_no_whole_group_is_refused_with_the_sizes_that_do(
    row: str, overrides: list[str], expected: str
) -> None:
    for size in (1, 31):
        with pytest.raises(SpecError) as caught:
            spec.load_experiment(
                EXPERIMENTS / f"{row}.yaml", [*overrides, f"runtime.device_batch={size}"]
            )
        assert f"runtime.device_batch: {size} is not possible: {expected}" in str(caught.value)
    mixes_nothing = ["recipe.mixup=0", "recipe.cutmix=0", "runtime.device_batch=1"]
    assert spec.load_experiment(EXPERIMENTS / "deit_s12.yaml", mixes_nothing)
