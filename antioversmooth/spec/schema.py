"""The dataclasses of config/ as JSON Schema, for editors to complete, explain and check a spec.

Draft 7, which the YAML plug-ins of editors know best. Loading a spec checks more: rules between
keys, and whether files exist.
"""

from __future__ import annotations

import dataclasses
import typing
from enum import Enum
from typing import Any

from antioversmooth import runs
from antioversmooth.config import Experiment, Figure, Table
from antioversmooth.config.types import element_type, is_config, type_hints, unwrap_optional
from antioversmooth.spec import fields

_TYPES = {int: "integer", float: "number", bool: "boolean", str: "string"}
_INTERPOLATION = {"type": "string", "pattern": r"\$\{.+\}"}
_DEFAULTS = {
    "type": "array",
    "description": (
        "Which files this one is made of, later ones before earlier ones; _self_ stands for its own"
        " keys."
    ),
    "items": {
        "anyOf": [
            {"type": "string"},
            {"type": "object", "additionalProperties": {"type": "string"}},
        ]
    },
}


def kinds() -> dict[str, type]:
    """The dataclass behind each kind of spec file: row, table, figure, and the groups of rows."""
    groups = {
        name: schema
        for name, schema in fields.sections().items()
        if name in fields.required(Experiment)
    }
    pages = {"row": Experiment, "table": Table, "figure": Figure}
    # a file of experiments/method/ holds keys of the model
    return {**pages, **groups, "method": groups["model"]}


def json_schema(kind: str) -> dict[str, Any]:
    """The schema of a kind of file.

    A row and its groups may leave out every key, since other files of the defaults can hold it.
    """
    schema, partial = kinds()[kind], kind not in ("table", "figure")
    nested: dict[str, Any] = {}
    top = _mapping(schema, nested, partial)
    if partial:
        top["properties"]["defaults"] = _DEFAULTS
    if kind in ("row", "table", "figure"):
        properties = top["properties"].items()
        top["properties"] = {key: part for key, part in properties if key not in fields.GIVEN}
        required = ["defaults"] if partial else top["required"]
        top["required"] = [key for key in required if key not in fields.GIVEN]
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": kind,
        **top,
        "definitions": nested,
    }


def _mapping(schema: type, nested: dict[str, Any], partial: bool) -> dict[str, Any]:
    """A dataclass; the dataclasses in it are added to `nested`."""
    defaults, docs = fields.defaults(schema), fields.docs(schema)
    keywords = {field.name: _keywords(field) for field in dataclasses.fields(schema)}
    properties = {}
    for name, hint in type_hints(schema).items():
        value = _value(hint, nested, partial, keywords[name])
        properties[name] = {"description": docs[name], **value}
        if name in defaults and not dataclasses.is_dataclass(defaults[name]):
            properties[name]["default"] = runs.to_json(defaults[name])
    made = {"type": "object", "properties": properties, "additionalProperties": False}
    return made if partial else {**made, "required": fields.required(schema)}


def _keywords(field: dataclasses.Field[Any]) -> dict[str, Any]:
    """The constraints of a field."""
    constraints = field.metadata.get("constraints", ())
    return {name: value for one in constraints for name, value in one.keywords.items()}


def _value(
    hint: Any, nested: dict[str, Any], partial: bool, keywords: dict[str, Any]
) -> dict[str, Any]:
    kind, optional = unwrap_optional(hint)
    if kind is Any:
        return {}
    own = _kind(kind, nested, partial)
    if "items" in keywords:
        keywords = {**keywords, "items": {**own["items"], **keywords["items"]}}
    choices = [{**own, **keywords}]
    if isinstance(kind, type) and (kind is not str or keywords) and not is_config(kind):
        choices.append(_INTERPOLATION)
    if optional:
        choices.append({"type": "null"})
    return choices[0] if len(choices) == 1 else {"anyOf": choices}


def _kind(kind: Any, nested: dict[str, Any], partial: bool) -> dict[str, Any]:
    if element := element_type(kind):
        return {"type": "array", "items": _kind(element, nested, partial)}
    if typing.get_origin(kind) is dict:
        return {"type": "object"}
    if is_config(kind):
        if kind.__name__ not in nested:
            nested[kind.__name__] = _mapping(kind, nested, partial)
        # allOf: beside a bare $ref nothing else counts
        return {"allOf": [{"$ref": f"#/definitions/{kind.__name__}"}]}
    if issubclass(kind, Enum):
        return {"enum": [choice.name for choice in kind]}
    return {"type": _TYPES[kind]}
