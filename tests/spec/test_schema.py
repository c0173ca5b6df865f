from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from antioversmooth.config.types import type_hints
from antioversmooth.spec.schema import json_schema, kinds

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
GROUPS = ("model", "method", "data", "recipe", "cluster")


def kind_of(path: Path) -> str:
    """By the folder that it is in, as an editor's setting would say it."""
    top = path.relative_to(EXPERIMENTS).parts[0]
    return {"tables": "table", "figures": "figure"}.get(top, top if top in GROUPS else "row")


def violations(text: str, schema: dict[str, Any]) -> list[str]:
    """What an editor would mark in a YAML file: where it is, and why."""
    found = Draft7Validator(schema).iter_errors(yaml.safe_load(text))
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in found]


@pytest.mark.parametrize(
    "path", sorted(EXPERIMENTS.rglob("*.yaml")), ids=lambda path: str(path.relative_to(EXPERIMENTS))
)
def test_every_shipped_spec_fits_its_schema(path: Path) -> None:
    # profiles have one key, and nobody edits them
    if path.parent.name == "profile":
        return
    assert violations(path.read_text(), json_schema(kind_of(path))) == []


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        (
            "row",
            "defaults: [schema, _self_]\nmodel: {dept: 3}",
            "model: Additional properties are not allowed ('dept'",
        ),
        ("row", "title: T", ": 'defaults' is a required property"),
        ("row", "defaults: []\nname: other", ": Additional properties are not allowed ('name'"),
        ("recipe", "epochs: many", "epochs: 'many' is not valid under any of the given schemas"),
        ("recipe", "betas: 0.9", "betas: 0.9 is not"),
        ("model", "method: attn", "method: 'attn' is not"),
        ("cluster", "nodes: [2]", "nodes: [2] is not"),
        ("cluster", "nodes: 0", "nodes: 0 is not"),
        ("cluster", "exclude: ['-w x']", "exclude.0: '-w x' does not match"),
        ("recipe", "dropout: 1.0", "dropout: 1.0 is not"),
        ("recipe", "betas: [0.9]", "betas: [0.9] is too short"),
        ("recipe", "crop_scale: [0, 1]", "crop_scale.0: 0 is less than or equal to the minimum"),
        ("recipe", "interpolation: box", "interpolation: 'box' is not"),
        ("recipe", "init_from: cait", "init_from: 'cait' is not"),
        ("table", "title: T\nrows: [{label: L, paper: {top1: 80, confidence: Q}}]", "paper"),
    ],
)
def test_what_is_wrong_does_not_fit(kind: str, text: str, said: str) -> None:
    assert any(said in found for found in violations(text, json_schema(kind)))


@pytest.mark.parametrize("kind", kinds())
def test_every_key_is_described_and_every_reference_leads_somewhere(kind: str) -> None:
    schema = json_schema(kind)
    Draft7Validator.check_schema(schema)
    for mapping in (schema, *schema["definitions"].values()):
        assert all(part["description"] for part in mapping["properties"].values())
    references = re.findall(r'"#/definitions/(\w+)"', json.dumps(schema))
    assert set(references) == set(schema["definitions"])


def test_bounds_of_a_value_leave_interpolations_and_null_possible() -> None:
    text = "clip_grad: null\ndropout: ${recipe.drop_path}\ninterpolation: ${oc.env:HOW}\n"
    assert violations(text, json_schema("recipe")) == []


def test_a_group_completes_the_keys_and_defaults_of_its_dataclass() -> None:
    recipe = json_schema("recipe")
    assert set(recipe["properties"]) == {*type_hints(kinds()["recipe"]), "defaults"}
    assert recipe["properties"]["weight_decay"]["default"] == 0.05
    assert recipe["properties"]["schedule_unit"]["default"] == "epoch"
    assert "required" not in recipe


def test_the_command_prints_the_schema() -> None:
    command = [sys.executable, "-m", "antioversmooth", "schema", "table"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=EXPERIMENTS.parent
    )
    assert json.loads(done.stdout) == json_schema("table")
