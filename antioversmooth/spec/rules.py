"""The rules of config/, asked of what a spec says: each broken one is a problem where the value was
set.

A config checks itself as a whole, when it is made. So that one wrong key does not hide the rules of
the others, a key that has no usable value gets a stand-in, and what is said about stand-ins is
dropped.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from omegaconf.errors import OmegaConfBaseException

from antioversmooth.errors import SpecError
from antioversmooth.spec import fields
from antioversmooth.spec.check import Reading
from antioversmooth.spec.compose import typed
from antioversmooth.spec.problems import Place, Problem

_KEY = re.compile(r"\b[a-z]+\.[a-z_]+\b")
"""A dotted key in a message."""


def broken_rules(schema: type, reading: Reading, top: Place) -> list[Problem]:
    """Problems for the rules that are broken by keys which have no other problem.

    Args:
        top: Where to point for a key that nobody set.
    """
    judge = _Judge({problem.key for problem in reading.problems if problem.key} | reading.unfit)
    judge.judge(schema, copy.deepcopy(reading.content), "")
    return [_problem(error, reading, top) for error in judge.errors]


class _Judge:
    """Makes configs from the inside out and keeps what they refuse."""

    def __init__(self, unknown: set[str]) -> None:
        self.unknown = unknown
        """Keys whose value is wrong, missing or a stand-in: rules that name them say nothing."""
        self.errors: list[SpecError] = []

    def judge(self, schema: type, content: dict[str, Any], key: str) -> bool:
        """Whether the content, with stand-ins for what broke a rule, makes a config."""
        self.fill(schema, content, key)
        sound = [
            self.judge(kind, child, path) for path, kind, child in _children(schema, content, key)
        ]
        if not all(sound):
            return False
        found = _errors(schema, content, key)
        self.errors += [
            error
            for error in _causes(found)
            if not self.names_unknown(f"{error.where} {error.message}")
        ]
        for error in found:
            content.pop(error.where.removeprefix(f"{key}."), None)
            self.unknown.add(error.where)
        self.fill(schema, content, key)
        return not found or not _errors(schema, content, key)

    def fill(self, schema: type, content: dict[str, Any], key: str) -> None:
        for name in fields.required(schema):
            if name not in content:
                content[name] = _stand_in(fields.unwrap(fields.hints(schema)[name])[0])
                self.unknown.add(f"{key}.{name}" if key else name)

    def names_unknown(self, text: str) -> bool:
        return _names_any(text, self.unknown)


def _names_any(text: str, keys: Iterable[str]) -> bool:
    return any(re.search(rf"(?<![\w.]){re.escape(key)}(?![\w\[])", text) for key in keys)


def _causes(errors: list[SpecError]) -> list[SpecError]:
    """Those that do not follow from others: what is compared with a value that is wrong by itself
    says nothing new."""
    by_itself = {error.where for error in errors if not _KEY.search(error.message)}
    return [error for error in errors if not _names_any(error.message, by_itself - {error.where})]


def _errors(schema: type, content: dict[str, Any], key: str) -> list[SpecError]:
    """What a config with this content refuses; its keys as seen from the outermost one."""
    return list(_refused(schema, json.dumps(content, sort_keys=True), key))


@lru_cache(maxsize=256)
def _refused(schema: type, content: str, key: str) -> tuple[SpecError, ...]:
    """The same of JSON: the rows of a table have most of their configs in common, and each one
    takes milliseconds."""
    try:
        typed(schema, json.loads(content))
    except SpecError as err:
        if not key:
            return err.parts
        # one inside another names its keys as if it stood by itself: `paper.top1`
        return tuple(
            SpecError(part.message, where=f"{key}.{part.where.partition('.')[2]}")
            for part in err.parts
        )
    except OmegaConfBaseException as err:
        return (SpecError(str(err).splitlines()[0], where=key),)
    return ()


def _children(
    schema: type, content: dict[str, Any], key: str
) -> Iterator[tuple[str, type, dict[str, Any]]]:
    """Path, type and content of each config inside a config."""
    for name, hint in fields.hints(schema).items():
        path, value = f"{key}.{name}" if key else name, content.get(name)
        kind = fields.unwrap(hint)[0]
        element = fields.element(kind)
        if fields.is_config(kind) and isinstance(value, dict):
            yield path, kind, value
        elif fields.is_config(element) and isinstance(value, list):
            yield from ((f"{path}[{i}]", element, child) for i, child in enumerate(value))


def _stand_in(kind: Any) -> Any:
    if fields.is_config(kind):
        return {}
    if fields.element(kind):
        return []
    return "-" if kind is str else 1 if kind in (int, float) else next(iter(kind)).name


def _problem(error: SpecError, reading: Reading, top: Place) -> Problem:
    """Points at the key, else at another one that the rule names, and notes where those others
    stand."""
    others = dict.fromkeys(_KEY.findall(error.message))
    named = {
        key: reading.places[key] for key in others if key in reading.places and key != error.where
    }
    place, notes = reading.places.get(error.where), []
    if place is None:
        home = reading.places.get(error.where.rpartition(".")[0], top)
        place, notes = (
            next(iter(named.values()), home),
            [f"{error.where} is not set, and has its default"],
        )
    notes += [
        f"{key} is set here: {other.named()}" for key, other in named.items() if other != place
    ]
    return Problem(place, error.where, error.message, tuple(notes))
