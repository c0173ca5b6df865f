"""The check of a config when it is made: the constraints of its fields, and rules between fields.

A rule between fields is a method with the decorator `rule`, which names the fields that it reads.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from antioversmooth.constraints import Constraint, all_expected
from antioversmooth.errors import SpecError


def absolute(path: str) -> str:
    """The absolute path, for resuming from another folder; the `~` of an unknown user stays."""
    return str(Path(os.path.expanduser(path)).absolute())


class Broken(NamedTuple):
    """A rule between fields that is broken."""

    key: str
    """The field to blame, with the index or the key of the element where it has such."""
    value: Any
    expected: str
    """The right values, in words."""
    also: tuple[str, ...] = ()
    """Other fields that decide what is right."""


Rule = Callable[[Any], Iterator[Broken]]
RuleT = TypeVar("RuleT", bound=Rule)


def rule(*keys: str) -> Callable[[RuleT], RuleT]:
    """Marks a method of a config as a rule between fields.

    Args:
        keys: All fields that it reads, as `epochs`, `data.num_train` or `rows[].label`. It is not
            asked where one of them has no value, or breaks a rule of its own.
    """

    def mark(method: RuleT) -> RuleT:
        vars(method)["reads"] = keys
        return method

    return mark


class Config:
    """Base of the dataclasses of a spec, which check their rules when they are made."""

    section = ""
    """Dotted key of such a config in messages, where it is made by itself."""

    def __init_subclass__(cls, section: str = "") -> None:
        cls.section = section

    def __post_init__(self) -> None:
        self.normalise()
        if errors := broken_rules(self, self.section):
            raise SpecError.together(errors)

    def normalise(self) -> None:
        """Rewrites values to the form that every process can use."""

    @classmethod
    def rules(cls) -> Iterator[Rule]:
        """The rules between its fields, in the order of the class."""
        return (method for method in vars(cls).values() if hasattr(method, "reads"))


def broken_rules(config: Config, key: str = "", unknown: Iterable[str] = ()) -> list[SpecError]:
    """An error for each key of a config, and of those in it, that breaks a rule.

    A rule is not checked where a key that it reads has a mistake already.

    Args:
        key: Dotted key of the config.
        unknown: Dotted keys that have no usable value.
    """
    own: dict[str, SpecError] = {}
    inner: dict[str, list[SpecError]] = {}
    blocked = {*unknown, *missing_keys(config, key)}
    for name, value in vars(config).items():
        inner[name] = [
            error
            for path, child in _configs(name, value)
            for error in broken_rules(child, _joined(key, path), unknown)
        ]
        blocked.update(error.where for error in inner[name])
    for item in dataclasses.fields(config):  # type: ignore[arg-type]
        dotted = _joined(key, item.name)
        if dotted not in blocked:
            own |= _broken_constraints(dotted, getattr(config, item.name), item)
    blocked.update(own)
    blocked = {re.sub(r"\[\d+\]", "[]", one) for one in blocked}
    for asked in config.rules():
        reads = [_joined(key, name) for name in vars(asked)["reads"]]
        if not any(_is_in(name, blocked) for name in reads):
            for broken in asked(config):
                dotted = _joined(key, broken.key)
                also = [_joined(key, name) for name in broken.also]
                own.setdefault(dotted, _error(dotted, broken.value, broken.expected, also))
    return _in_order(config, key, own, inner) if own or any(inner.values()) else []


def missing_keys(config: Config, key: str = "") -> Iterator[str]:
    """Dotted keys of a config, and of the configs in it, that have no value."""
    for item in dataclasses.fields(config):  # type: ignore[arg-type]
        if item.name not in vars(config):
            yield _joined(key, item.name)
        else:
            for path, child in _configs(item.name, getattr(config, item.name)):
                yield from missing_keys(child, _joined(key, path))


def _broken_constraints(key: str, value: Any, item: dataclasses.Field[Any]) -> dict[str, SpecError]:
    """The error of a field; of a list those of its elements, where it is right as a whole."""
    constraints: tuple[Constraint, ...] = item.metadata.get("constraints", ())
    if value is None or not constraints:
        return {}
    if not all(constraint.holds(value) for constraint in constraints):
        or_null = ", or null" if str(item.type).endswith("| None") else ""
        return {key: _error(key, value, all_expected(constraints) + or_null)}
    found = {}
    for constraint in constraints:
        for index, element in enumerate(value) if constraint.elements else ():
            if not all(one.holds(element) for one in constraint.elements):
                dotted = f"{key}[{index}]"
                found[dotted] = _error(dotted, element, all_expected(constraint.elements))
    return found


def _error(key: str, value: Any, expected: str, also: Iterable[str] = ()) -> SpecError:
    return SpecError(f"{value!r} is not possible: {expected}", where=key, keys=(key, *also))


def _in_order(
    config: Config, key: str, own: Mapping[str, SpecError], inner: Mapping[str, list[SpecError]]
) -> list[SpecError]:
    """Errors in the order of the fields that they are about."""
    names = [item.name for item in dataclasses.fields(config)]  # type: ignore[arg-type]
    prefix = f"{key}." if key else ""
    found: list[SpecError] = []
    for name in names:
        start = re.compile(re.escape(prefix + name) + r"(?![\w-])")
        found += [error for dotted, error in own.items() if start.match(dotted)]
        found += inner.get(name, [])
    return found


def _configs(name: str, value: Any) -> Iterator[tuple[str, Config]]:
    """Path and value of each config that a field holds."""
    if isinstance(value, Config):
        yield name, value
    elif isinstance(value, list):
        yield from ((f"{name}[{i}]", one) for i, one in enumerate(value) if isinstance(one, Config))


def _joined(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _is_in(key: str, blocked: Collection[str]) -> bool:
    """Whether a dotted key, or one that it lies in, is blocked."""
    key = re.sub(r"\[\d+\]", "[]", key)
    return any(key == one or key.startswith((f"{one}.", f"{one}[")) for one in blocked)
