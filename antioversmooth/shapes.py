"""Shapes of JSON values: files from elsewhere are held against one before they are used.

A shape is `str`, `bool`, `int` or `float` (finite; an int is one), `Bounds` of a number, a range of
ints, a regular expression that a text must match as a whole, a list of one shape (of all elements),
a tuple of several (one of them fits), None (null), `dict` (any mapping), or a mapping of keys to
shapes, in which a key that ends with `?` may be absent, and `*` is every key that is not named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Shape = Any

LARGEST = 2.0**63
"""Numbers are below this; larger ones have no form that every reader understands."""


@dataclass(frozen=True)
class Bounds:
    """The smallest and the largest value that a number can have."""

    low: float
    high: float = LARGEST

    def __str__(self) -> str:
        return f"between {self.low:.6g} and {self.high:.6g}"

    def __contains__(self, value: Any) -> bool:
        # False for NaN, too
        return type(value) in (int, float) and self.low <= value <= self.high


_WORDS = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    dict: "a mapping",
}


def misfits(value: Any, shape: Shape, key: str = "") -> Iterator[str]:
    """A sentence for each part of a value that has another shape.

    Args:
        key: The place of the value: rows[0].top1.
    """
    if isinstance(shape, tuple):
        if all(any(misfits(value, one)) for one in shape):
            # the parts of a mapping or a list say more than the whole
            inner = [one for one in shape if type(one) is type(value) and value is not None]
            yield from misfits(value, inner[0], key) if inner else [_misfit(value, shape, key)]
    elif isinstance(shape, list) and isinstance(value, list):
        for index, item in enumerate(value):
            yield from misfits(item, shape[0], f"{key}[{index}]")
    elif type(shape) is dict and isinstance(value, dict):
        yield from _misfits_of_mapping(value, shape, key)
    elif not _fits(value, shape):
        yield _misfit(value, shape, key)


def _misfits_of_mapping(value: dict[str, Any], shape: dict[str, Shape], key: str) -> Iterator[str]:
    named = {name.removesuffix("?"): of for name, of in shape.items() if name != "*"}
    for name, of in named.items():
        if name in value:
            yield from misfits(value[name], of, _joined(key, name))
        elif f"{name}?" not in shape:
            yield f"{_joined(key, name)} is missing"
    if "*" in shape:
        for name in value.keys() - named:
            yield from misfits(value[name], shape["*"], _joined(key, name))


def _fits(value: Any, shape: Shape) -> bool:
    if isinstance(shape, re.Pattern):
        return isinstance(value, str) and shape.fullmatch(value) is not None
    if shape is int or shape is float:
        kinds = (int,) if shape is int else (int, float)
        # False for NaN, too
        return type(value) in kinds and abs(value) < LARGEST
    if isinstance(shape, range):
        return type(value) is int and value in shape
    if isinstance(shape, Bounds):
        return value in shape
    return value is None if shape is None else isinstance(shape, type) and type(value) is shape


def _misfit(value: Any, shape: Shape, key: str) -> str:
    text = repr(value)
    text = text if len(text) <= 60 else f"{text[:57]}..."
    return f"{key} is {text}, and must be {_words(shape)}"


def _words(shape: Shape) -> str:
    if isinstance(shape, tuple):
        return " or ".join(map(_words, shape))
    if isinstance(shape, list):
        return "a list"
    if isinstance(shape, re.Pattern):
        return f"a name ({shape.pattern})"
    if isinstance(shape, range):
        return f"a whole number from {shape.start} to {shape.stop - 1}"
    if isinstance(shape, Bounds):
        return f"a number {shape}"
    return "null" if shape is None else _WORDS[dict if isinstance(shape, dict) else shape]


def _joined(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
