"""Options of a method: fields of its dataclass that are declared with `constraints.option`.

A spec gives them in `model.method_options`, a call of `add_method` as keywords.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Any

from antioversmooth.constraints import all_expected

_KINDS = {
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    str: "text",
    list[int]: "a list of whole numbers",
}
"""The types that an option may have, in words."""


def options_of(method: type) -> dict[str, dataclasses.Field[Any]]:
    """The options of a method by name."""
    return {
        field.name: field for field in dataclasses.fields(method) if "constraints" in field.metadata
    }


def option_types(method: type) -> dict[str, Any]:
    """The type of each option."""
    hints = typing.get_type_hints(method)
    return {name: hints[name] for name in options_of(method)}


def default_of(option: dataclasses.Field[Any]) -> Any:
    """The value that an option has where nobody gives it."""
    made = option.default_factory
    return option.default if made is dataclasses.MISSING else made()


def differing(method: type | None, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are not the default of their option."""
    known = options_of(method) if method else {}
    return {
        name: value
        for name, value in values.items()
        if name not in known or value != default_of(known[name])
    }


def with_defaults(method: type | None, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, and those of the other options of the method."""
    known = options_of(method) if method else {}
    return {**{name: default_of(option) for name, option in known.items()}, **values}


def acting(method: type | None, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of options that change what trained weights compute."""
    known = options_of(method) if method else {}
    return {
        name: value
        for name, value in values.items()
        if name not in known or not known[name].metadata.get("training_only")
    }


def expected(method: type, name: str, value: Any) -> str:
    """The right values of a field of a method, in words; empty where its value is one.

    Fields that are no options have their type alone, and those of other types their own check.
    """
    field = {field.name: field for field in dataclasses.fields(method)}[name]
    constraints = field.metadata.get("constraints", ())
    kind = typing.get_type_hints(method)[name]
    if kind not in _KINDS:
        return ""
    if not _is_of(kind, value):
        return _KINDS[kind]
    held = (
        constraint.holds(value)
        and all(one.holds(part) for one in constraint.elements for part in value)
        for constraint in constraints
    )
    return "" if all(held) else all_expected(constraints)


def _is_of(kind: Any, value: Any) -> bool:
    if kind == list[int]:
        return isinstance(value, list) and all(_is_of(int, part) for part in value)
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, (int, float)) and _is_finite(value)
    return isinstance(value, kind)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        # a whole number beyond all floats
        return False
