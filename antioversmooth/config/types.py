"""Types of the fields of a config, and plain values that are converted to them."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from functools import cache
from typing import Any, TypeGuard, TypeVar

from antioversmooth.config.rules import Config, broken_rules, missing_keys
from antioversmooth.constraints import MISSING
from antioversmooth.errors import SpecError

C = TypeVar("C", bound=Config)


@cache
def type_hints(schema: type) -> dict[str, Any]:
    """The type of each key."""
    hints = typing.get_type_hints(schema)
    return {field.name: hints[field.name] for field in dataclasses.fields(schema)}


def unwrap_optional(hint: Any) -> tuple[Any, bool]:
    """The type without its `| None`, and whether null is possible."""
    if isinstance(hint, types.UnionType):
        (kind,) = (option for option in typing.get_args(hint) if option is not types.NoneType)
        return kind, True
    return hint, hint is Any


def is_config(kind: Any) -> TypeGuard[type[Config]]:
    """Whether a type is a dataclass of its own."""
    return isinstance(kind, type) and issubclass(kind, Config)


def element_type(kind: Any) -> Any:
    """Type of the elements of a list; None where the type is no list."""
    return typing.get_args(kind)[0] if typing.get_origin(kind) is list else None


def make(schema: type[C], content: dict[str, Any]) -> C:
    """A config of plain values, such as a file or `runs.to_json` holds.

    Raises:
        SpecError: A key is unknown, a value is missing or of another type, or a rule is broken.
    """
    config = build(schema, content)
    errors = [SpecError("has no value", where=key) for key in missing_keys(config)]
    if errors := errors or broken_rules(config):
        raise SpecError.together(errors)
    return config


def as_recorded(schema: type, content: dict[str, Any]) -> dict[str, Any]:
    """Plain values that a run recorded, with the `identity_default` of fields added since then, and
    under the names that fields have now.

    Such a default means what the code did before it had the field, unlike the default of today.
    """
    filled = dict(content)
    for field in dataclasses.fields(schema):
        if (formerly := field.metadata.get("formerly")) in filled:
            filled.setdefault(field.name, filled.pop(formerly))
        if "identity_default" in field.metadata:
            filled.setdefault(field.name, field.metadata["identity_default"])
        kind, value = unwrap_optional(type_hints(schema)[field.name])[0], filled.get(field.name)
        if is_config(kind) and isinstance(value, dict):
            filled[field.name] = as_recorded(kind, value)
    return filled


def build(schema: type[C], content: dict[str, Any]) -> C:
    """A config of plain values, rules unchecked; a missing required value is no attribute of it.

    Raises:
        SpecError: A key is unknown, or a value of another type.
    """
    hints: dict[str, Any] = type_hints(schema)  # type: ignore[arg-type]
    if unknown := content.keys() - hints:
        raise SpecError(f"there is no key {', '.join(map(str, sorted(unknown, key=str)))}")
    config = object.__new__(schema)
    for field in dataclasses.fields(schema):  # type: ignore[arg-type]
        value = content.get(field.name, MISSING)
        if value is not MISSING and value != MISSING:
            vars(config)[field.name] = convert(hints[field.name], value, field.name)
        elif field.default_factory is not dataclasses.MISSING:
            vars(config)[field.name] = field.default_factory()
        elif field.default is not dataclasses.MISSING and field.default != MISSING:
            vars(config)[field.name] = field.default
    config.normalise()
    return config


def convert(hint: Any, value: Any, key: str = "") -> Any:
    """A plain value as the type of a field. Scalars may be given as text; numbers must be finite.

    Raises:
        SpecError: It is of another type.
    """
    kind, optional = unwrap_optional(hint)
    if kind is Any or (value is None and optional):
        return value
    if is_config(kind) and isinstance(value, dict):
        return build(kind, value)
    if (element := element_type(kind)) and isinstance(value, (list, tuple)):
        return [convert(element, item, key) for item in value]
    if typing.get_origin(kind) is dict and isinstance(value, dict):
        return dict(value)
    is_scalar = isinstance(kind, type) and not is_config(kind)
    if is_scalar and isinstance(value, (str, int, float)):
        try:
            return _SCALARS.get(kind, kind)(value)
        except (ValueError, KeyError, OverflowError):
            pass
    raise SpecError(f"{value!r} does not fit", where=key)


def _whole_number(value: str | float) -> int:
    if isinstance(value, (bool, float)):
        raise ValueError
    return int(value)


def _number(value: str | float) -> float:
    if isinstance(value, bool) or not math.isfinite(number := float(value)):
        raise ValueError
    return number


def _truth(value: str | float) -> bool:
    return value if isinstance(value, bool) else _TRUTHS[str(value).lower()]


_TRUTHS = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
_SCALARS: dict[type, Any] = {int: _whole_number, float: _number, bool: _truth, str: str}
