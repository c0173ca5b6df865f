"""Classes by name: their checksum, and which class of some weights each class of a data set is."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from antioversmooth.errors import DataError, and_more

INDEX = "index"
"""Word for the map from class folders that are named by the numbers of the weights' classes."""
OPTION = "--class-map"
"""Option of `antioversmooth evaluate` that gives such a map."""


@dataclass(frozen=True)
class ClassMap:
    """The class of the weights that each class of a data set is."""

    columns: tuple[int, ...] | None
    """Numbers of the weights' classes, by the number of the data's class; None: the same."""
    description: str
    """A clause for people: how the classes were matched."""


def classes_checksum(classes: Sequence[str]) -> str:
    """sha256 over the names of classes, in their order."""
    return hashlib.sha256(b"\0".join(os.fsencode(name) for name in classes)).hexdigest()


def is_numbered(classes: Sequence[str]) -> bool:
    """Whether classes are named by their numbers, as in layouts without names."""
    return list(classes) == [str(number) for number in range(len(classes))]


def match_names(data: Sequence[str], weights: Sequence[str]) -> ClassMap | None:
    """The map by name; None where the weights lack a class of the data."""
    if list(data) == list(weights):
        return ClassMap(None, "by name")
    numbers = {name: number for number, name in enumerate(weights)}
    if not numbers.keys() >= set(data):
        return None
    columns = tuple(numbers[name] for name in data)
    return ClassMap(columns, f"by name, {_describe_subset(len(columns), len(weights))}")


def match_classes(
    data: Sequence[str],
    weights: Sequence[str] | None,
    count: int,
    given: Mapping[str, str | int] | str | None = None,
) -> ClassMap:
    """The map of an evaluation: by name, or as it was given.

    Args:
        data: Names of the data's classes, in order.
        weights: Names of the weights' classes, in order; None: not recorded.
        count: Number of the weights' classes.
        given: Name or number of the weights' class of each class folder; or INDEX.

    Raises:
        DataError: A class of the data is none of the weights', cannot be known, or is alone.
    """
    if len(data) == 1 < count:
        raise DataError(
            f"the data has the single class {data[0]}: of some classes only their logits compete,"
            " so every image would count as right; add images of other classes"
        )
    if given is not None:
        return _match_given(data, weights, count, given)
    if weights is None:
        return _match_unnamed(data, count)
    found = match_names(data, weights)
    if found is None:
        raise DataError(f"{describe_difference(data, weights)}{_advice(data, count)}")
    return found


def _match_unnamed(data: Sequence[str], count: int) -> ClassMap:
    """The map by number, for weights that record no names."""
    if len(data) != count:
        raise DataError(
            f"the data has {len(data):,} classes, the weights have {count:,} and do not record"
            f" their names; say which is which with {OPTION} FILE{_advice(data, count)}"
        )
    numbers = _numbers(data)
    if numbers is not None and numbers != sorted(numbers):
        raise DataError(
            f"the class folders are numbers, which sort as {', '.join(data[:3])}, and the weights"
            f" do not record the names of their classes{_advice(data, count)}"
        )
    return ClassMap(None, "by number: the weights do not record names")


def _match_given(
    data: Sequence[str],
    weights: Sequence[str] | None,
    count: int,
    given: Mapping[str, str | int] | str,
) -> ClassMap:
    if isinstance(given, str):
        numbers = _numbers(data)
        if numbers is None:
            words = [name for name in data if not name.isdecimal()]
            raise DataError(f"{OPTION} {INDEX}: {and_more(words, 3)} is no number of a class")
        given = dict(zip(data, numbers, strict=True))
    if absent := [name for name in data if name not in given]:
        raise DataError(f"{OPTION}: no class is given for {and_more(absent, 3)}")
    by_name = {name: number for number, name in enumerate(weights or ())}
    columns = [_column(name, given[name], by_name, count) for name in data]
    repeated = [number for number, times in Counter(columns).items() if times > 1]
    if repeated:
        same = [name for name, column in zip(data, columns, strict=True) if column == repeated[0]]
        raise DataError(f"{OPTION}: {and_more(same, 3)} are the same class, {repeated[0]}")
    described = _describe_subset(len(columns), count)
    return ClassMap(tuple(columns), f"as {OPTION} says, {described}")


def _column(name: str, given: str | int, by_name: Mapping[str, int], count: int) -> int:
    """The number of the weights' class that is given for a folder, by name or by number."""
    column = by_name.get(given) if isinstance(given, str) else given
    if column is None:
        known = (
            f"one of {and_more(list(by_name), 3)}" if by_name else "a number: no names are known"
        )
        raise DataError(f"{OPTION}: {name} is given as {given!r}; must be {known}")
    if not 0 <= column < count:
        raise DataError(f"{OPTION}: {name} is given as {column}; must be 0 to {count - 1}")
    return column


def read_class_map(word: str) -> Mapping[str, str | int] | str:
    """The value of `--class-map`: INDEX, or the content of a JSON file.

    Raises:
        DataError: It is no such file.
    """
    if word == INDEX:
        return word
    try:
        content = json.loads(Path(word).read_text())
    except (OSError, ValueError, RecursionError) as err:
        raise DataError(f"{OPTION} {word}: cannot be read ({err}); {_FORM}") from err
    if not isinstance(content, dict) or not all(type(v) in (str, int) for v in content.values()):
        raise DataError(f"{OPTION} {word}: {_FORM}")
    return content


_FORM = (
    f"must be {INDEX}, or a JSON file of an object: the name or number of the weights' class of"
    " each class folder"
)


def describe_difference(data: Sequence[str], weights: Sequence[str]) -> str:
    """The first class of the data that is none of the weights', with the weights' of its number."""
    known = set(weights)
    unknown = [(number, name) for number, name in enumerate(data) if name not in known]
    # of the same classes in another order
    unknown = unknown or [
        (number, name) for number, name in enumerate(data) if name != weights[number]
    ]
    number, name = unknown[0]
    theirs = f", {weights[number]} for the weights" if number < len(weights) else ""
    return (
        f"the classes of the data are not those of the weights: class {number} is {name} in the"
        f" data{theirs} ({len(unknown):,} of {len(data):,} classes differ)"
    )


def _advice(data: Sequence[str], count: int) -> str:
    """The option for class folders that are numbers; a map for others."""
    numbers = _numbers(data)
    if numbers is not None and max(numbers) < count:
        return f"; if its folders are the numbers of the weights' classes, add {OPTION} {INDEX}"
    return f"; {OPTION} FILE says which is which"


def _numbers(names: Sequence[str]) -> list[int] | None:
    """The names as numbers; None where one is no number."""
    return [int(name) for name in names] if all(map(str.isdecimal, names)) else None


def _describe_subset(some: int, count: int) -> str:
    if some == count:
        return "in another order than the weights'"
    return f"{some:,} of the weights' {count:,} classes: only their logits compete"
