"""What the dataclasses of config/ say about themselves: types, docstrings, which keys must have a value."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import types
import typing
from functools import cache
from typing import Any, TypeGuard

from omegaconf import MISSING

from antioversmooth.config import Experiment


@cache
def hints(schema: type) -> dict[str, Any]:
    """The type of each key."""
    return typing.get_type_hints(schema)


def unwrap(hint: Any) -> tuple[Any, bool]:
    """The type without its `| None`, and whether it had one."""
    if isinstance(hint, types.UnionType):
        (kind,) = (option for option in typing.get_args(hint) if option is not types.NoneType)
        return kind, True
    return hint, hint is Any


def is_config(kind: Any) -> TypeGuard[type]:
    """Whether a type is a dataclass of its own."""
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def element(kind: Any) -> Any:
    """Type of the elements of a list; None where the type is no list."""
    return typing.get_args(kind)[0] if typing.get_origin(kind) is list else None


@cache
def docs(schema: type) -> dict[str, str]:
    """The docstring under each field, on one line."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(schema))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for statement, after in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            match after:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    found[statement.target.id] = " ".join(text.split())
    return found


def required(schema: type) -> list[str]:
    """Keys without a default."""
    return [field.name for field in dataclasses.fields(schema) if field.default == MISSING]


def defaults(schema: type) -> dict[str, Any]:
    """Values of the keys that have a default."""
    made = {}
    for field in dataclasses.fields(schema):
        if field.default_factory is not dataclasses.MISSING:
            made[field.name] = field.default_factory()
        elif field.default != MISSING:
            made[field.name] = field.default
    return made


@cache
def sections() -> dict[str, type]:
    """model, data, recipe, ...: the keys of an experiment that have keys of their own."""
    return {name: hint for name, hint in hints(Experiment).items() if is_config(hint)}


def homes(schema: type) -> dict[str, list[str]]:
    """Dotted keys of an experiment by their last part; none for the fields of a table or a figure."""
    found: dict[str, list[str]] = {}
    if schema is Experiment or schema in sections().values():
        for section, part in sections().items():
            for name in hints(part):
                found.setdefault(name, []).append(f"{section}.{name}")
    return found


def explain(schema: type, name: str) -> tuple[str, ...]:
    """The docstring of a key, as a note below a problem."""
    text = docs(schema).get(name)
    return (f"{name}: {text}",) if text else ()
