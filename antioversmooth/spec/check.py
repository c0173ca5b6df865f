"""Checks the keys and types of a part of a spec against the dataclasses of config/."""

from __future__ import annotations

import json
import typing
from collections.abc import Collection
from dataclasses import Field, dataclass, field
from enum import Enum
from string import ascii_lowercase
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import GrammarParseError

from antioversmooth.config import MISSING
from antioversmooth.config.types import (
    convert,
    element_type,
    is_config,
    type_hints,
    unwrap_optional,
)
from antioversmooth.errors import FEW, question, there_are
from antioversmooth.spec import fields
from antioversmooth.spec.problems import Place, Problem, alike, misspelt
from antioversmooth.spec.scalars import complaint
from antioversmooth.spec.source import UNREADABLE, Node

_UNFIT = object()
"""Marks a value that cannot be used; it is left out of the content."""


@dataclass
class Reading:
    """The content of a part of a spec, with places and problems."""

    content: dict[str, Any] = field(default_factory=dict)
    """Keys and values that fit, nested."""
    places: dict[str, Place] = field(default_factory=dict)
    """Place of the value of each dotted key; of `rows[2].label` for elements of lists."""
    problems: list[Problem] = field(default_factory=list)
    unfit: set[str] = field(default_factory=set)
    """Dotted keys whose value cannot be used, and is not in the content."""

    def add(self, later: Reading) -> None:
        """Merges a later part, whose values replace earlier ones."""
        _merge(self.content, later.content)
        self.places |= later.places
        self.problems += later.problems
        self.unfit |= later.unfit


def _merge(base: dict[str, Any], later: dict[str, Any]) -> None:
    for key, value in later.items():
        if isinstance(value, dict):
            if not isinstance(base.get(key), dict):
                base[key] = {}
            _merge(base[key], value)
        else:
            base[key] = [*value] if isinstance(value, list) else value


def check(node: Node, schema: type, *, partial: bool) -> Reading:
    """Reads a mapping as the fields of a dataclass.

    Args:
        partial: Other files may hold the keys that are missing here.
    """
    checker = _Checker(partial)
    content = checker.mapping(node, schema, "")
    if isinstance(content, dict):
        checker.reading.content = content
    return checker.reading


class _Checker:
    """Walks down a tree of nodes and a tree of types together."""

    def __init__(self, partial: bool) -> None:
        self.partial, self.reading = partial, Reading()
        self.places = self.reading.places

    def refuse(self, place: Place, key: str, message: str, schema: type | None = None) -> object:
        """Adds a problem, with the docstring of the key where it is a field of `schema`."""
        notes = fields.notes(schema, key.rpartition(".")[2]) if schema else ()
        self.reading.problems.append(Problem(place, key, message, notes))
        return _UNFIT

    def mapping(self, node: Node, schema: type, key: str) -> object:
        if not isinstance(node.value, dict):
            some = ", ".join([*type_hints(schema)][:3])
            return self.refuse(node.place, key, f"a mapping belongs here, with keys such as {some}")
        self.places[key] = node.key_place
        content = {}
        meant: set[str] = set()
        for name, child in node.value.items():
            dotted = f"{key}.{name}" if key else name
            if name not in type_hints(schema) or dotted in fields.GIVEN:
                meant.update(self.unknown(child, dotted, schema))
            elif (value := self.value(child, dotted, schema, name)) is _UNFIT:
                self.reading.unfit.add(dotted)
            else:
                content[name] = value
        if not self.partial:
            self.missing(node, key, schema, meant)
        return content

    def unknown(self, node: Node, dotted: str, schema: type) -> Collection[str]:
        """Refuses an unknown key; returns the keys that may be meant."""
        name = dotted.rpartition(".")[2]
        if name in type_hints(schema) and (given := fields.GIVEN.get(dotted)):
            self.refuse(node.key_place, dotted, f"{given}; leave it out")
            return ()
        siblings = [
            other for other in type_hints(schema) if "." in dotted or other not in fields.GIVEN
        ]
        qualified = fields.qualified_names(schema)
        if name in ("seed", "seeds") and qualified:
            message = "seeds are no part of a spec: --seeds 0,1,2 on the command line"
            self.refuse(node.key_place, dotted, message)
            return ()
        ours = fields.ALIASES.get(name.replace("-", "_").lower(), name)
        close = (
            [ours] * (ours != name and ours in siblings)
            or qualified.get(ours)
            or alike(name, siblings)
            or [dotted_name for key in misspelt(name, qualified) for dotted_name in qualified[key]]
        )
        hint = question(close) or _others(siblings, name)
        self.refuse(node.key_place, dotted, f"there is no such key; {hint}")
        return close

    def missing(self, node: Node, key: str, schema: type, meant: Collection[str]) -> None:
        """Refuses required keys that are missing, except those that a refused key may mean."""
        for name in fields.required(schema):
            dotted = f"{key}.{name}" if key else name
            if dotted not in fields.GIVEN and name not in node.value and name not in meant:
                self.refuse(node.place, dotted, "has no value, and needs one", schema)

    def value(self, node: Node, key: str, schema: type, name: str) -> object:
        """The value of a key of a dataclass."""
        kind, optional = unwrap_optional(type_hints(schema)[name])
        if node.value is UNREADABLE:
            return _UNFIT
        if is_config(kind) and not (optional and node.value is None):
            return self.mapping(node, kind, key)
        self.places[key] = node.place
        if node.value == MISSING:
            return self.refuse(node.place, key, "has no value, and needs one", schema)
        if node.value is None:
            if optional:
                return None
            return self.refuse(node.place, key, "null is no value here", schema)
        if typing.get_origin(kind) is dict:
            return self.free(node, key)
        if element := element_type(kind):
            return self.elements(node, element, key, fields.field_of(schema, name))
        return self.scalar(node, kind, key, schema)

    def free(self, node: Node, key: str) -> object:
        if not isinstance(node.value, dict):
            return self.refuse(node.place, key, "a mapping belongs here: `{name: value}`")
        self.places |= {f"{key}.{name}": child.place for name, child in node.value.items()}
        written = [child for child in node.descendants() if _is_interpolation(child.value)]
        fits = [self.interpolation(child, key) is not _UNFIT for child in written]
        return node.plain() if all(fits) else _UNFIT

    def elements(self, node: Node, kind: Any, key: str, field: Field[Any]) -> object:
        if _is_interpolation(node.value):
            return self.interpolation(node, key)
        if not isinstance(node.value, list):
            return self.refuse(node.place, key, _no_list(node, fields.length(field)))
        read = [self.element(child, kind, f"{key}[{i}]") for i, child in enumerate(node.value)]
        return _UNFIT if any(value is _UNFIT for value in read) else read

    def element(self, node: Node, kind: Any, key: str) -> object:
        if node.value is UNREADABLE:
            return _UNFIT
        if is_config(kind):
            return self.mapping(node, kind, key)
        self.places[key] = node.place
        if node.value is None:
            return self.refuse(node.place, key, "null is no value here")
        return self.scalar(node, kind, key, None)

    def scalar(self, node: Node, kind: Any, key: str, schema: type | None) -> object:
        if isinstance(node.value, (list, dict)):
            return self.refuse(node.place, key, "a single value belongs here", schema)
        if _is_interpolation(node.value):
            return self.interpolation(node, key)
        name = key.rpartition(".")[2]
        choices = fields.choices(fields.field_of(schema, name), kind) if schema else ()
        if wrong := complaint(node.value, node.text, kind, name, choices):
            return self.refuse(node.place, key, wrong, schema)
        return node.value if issubclass(kind, Enum) else convert(kind, node.value)

    def interpolation(self, node: Node, key: str) -> object:
        """An interpolation as it is written; its value is checked when all parts are merged."""
        try:
            OmegaConf.create({"value": node.value})
        except GrammarParseError as err:
            reason = str(err).splitlines()[0]
            return self.refuse(node.place, key, f"`{node.value}` is no interpolation: {reason}")
        return node.value


def _no_list(node: Node, length: int | None) -> str:
    """The message for a value in the place of a list, of this length where it is fixed."""
    if length is not None:
        letters = ", ".join(ascii_lowercase[:length])
        return f"a list of {length} values belongs here: write [{letters}]"
    if isinstance(node.value, dict):
        return "a list belongs here: write [a, b], or a line with `- ` for each"
    return f"a list belongs here: write [{node.text or json.dumps(node.value)}]"


def _is_interpolation(value: Any) -> bool:
    return isinstance(value, str) and "${" in value


def _others(keys: Collection[str], name: str) -> str:
    """The known keys, for an unknown one that resembles none of them."""
    elsewhere = "; `antioversmooth schema` has all" if len(keys) > FEW else ""
    return there_are(keys, name) + elsewhere
