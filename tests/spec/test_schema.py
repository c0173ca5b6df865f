from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from antioversmooth.spec import fields
from antioversmooth.spec.schema import json_schema, kinds

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
GROUPS = ("model", "data", "recipe", "cluster")
TYPES = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}


def kind_of(path: Path) -> str:
    """By the folder that it is in, as an editor's setting would say it."""
    top = path.relative_to(EXPERIMENTS).parts[0]
    return {"tables": "table", "figures": "figure"}.get(top, top if top in GROUPS else "row")


def violations(value: Any, schema: dict[str, Any], root: dict[str, Any], where: str = "") -> list[str]:
    """What a validator would say, for the part of JSON Schema that is used here."""
    if "$ref" in schema:
        return violations(value, root["definitions"][schema["$ref"].rpartition("/")[2]], root, where)
    if "anyOf" in schema:
        found = [violations(value, choice, root, where) for choice in schema["anyOf"]]
        return [] if [] in found else found[0]
    found = [said for part in schema.get("allOf", []) for said in violations(value, part, root, where)]
    if schema.get("type") == "null":
        return found if value is None else [f"{where}: not null"]
    wanted = TYPES.get(schema.get("type", ""), object)
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted not in (bool, object)):
        return [*found, f"{where}: not of type {schema['type']}"]
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{where}: not one of {schema['enum']}")
    if "pattern" in schema and not re.search(schema["pattern"], value):
        found.append(f"{where}: does not match")
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties", {})
        found += [f"{where}: misses {key}" for key in schema.get("required", []) if key not in value]
        for key, part in value.items():
            if key not in properties and others is False:
                found.append(f"{where}.{key}: unknown")
            else:
                found += violations(part, properties.get(key) or others or {}, root, f"{where}.{key}")
    if isinstance(value, list):
        found += [said for part in value for said in violations(part, schema.get("items", {}), root, f"{where}[]")]
    return found


@pytest.mark.parametrize(
    "path", sorted(EXPERIMENTS.rglob("*.yaml")), ids=lambda path: str(path.relative_to(EXPERIMENTS))
)
def test_every_shipped_spec_fits_its_schema(path: Path) -> None:
    if path.parent.name == "profile":  # one key, and it is not edited
        return
    schema = json_schema(kind_of(path))
    assert violations(yaml.safe_load(path.read_text()), schema, schema) == []


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("row", "defaults: [schema, _self_]\nmodel: {dept: 3}", ".model.dept: unknown"),
        ("row", "title: T", ": misses defaults"),
        ("row", "defaults: []\nname: other", ".name: unknown"),
        ("recipe", "epochs: many", ".epochs: not of type integer"),
        ("model", "scaling: attn", ".scaling: not one of"),
        ("table", "title: T\nrows: [{label: L, paper: {top1: 80, confidence: Q}}]", ": misses source"),
    ],
)
def test_what_is_wrong_does_not_fit(kind: str, text: str, said: str) -> None:
    schema = json_schema(kind)
    assert any(said in found for found in violations(yaml.safe_load(text), schema, schema))


@pytest.mark.parametrize("kind", kinds())
def test_every_key_is_described_and_every_reference_leads_somewhere(kind: str) -> None:
    schema = json_schema(kind)
    for mapping in (schema, *schema["definitions"].values()):
        assert all(part["description"] for part in mapping["properties"].values())
    references = re.findall(r'"#/definitions/(\w+)"', json.dumps(schema))
    assert set(references) == set(schema["definitions"])


def test_a_group_completes_the_keys_and_defaults_of_its_dataclass() -> None:
    recipe = json_schema("recipe")
    assert set(recipe["properties"]) == {*fields.hints(kinds()["recipe"]), "defaults"}
    assert recipe["properties"]["weight_decay"]["default"] == 0.05
    assert recipe["properties"]["schedule_unit"]["default"] == "epoch"
    assert "required" not in recipe


def test_the_command_prints_the_schema() -> None:
    command = [sys.executable, "-m", "antioversmooth", "schema", "table"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=EXPERIMENTS.parent)
    assert json.loads(done.stdout) == json_schema("table")
