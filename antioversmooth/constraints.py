"""Rules of a single value, declared on the fields of a config or of a method.

One declaration gives the check, its message, and the keywords of the JSON Schema.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

MISSING: Any = "???"
"""OmegaConf's mark of a value that a spec must give; not imported: models need no OmegaConf."""


@dataclass(frozen=True)
class Constraint:
    """A rule of one value."""

    holds: Callable[[Any], bool]
    expected: str
    """The right values, in words."""
    keywords: Mapping[str, Any]
    """The right values, as keywords of JSON Schema."""
    elements: tuple[Constraint, ...] = ()
    """Rules of each element of a list; `holds` does not check elements."""


def option(
    default: Any = MISSING,
    *constraints: Constraint,
    identity: bool | Callable[[Any], bool] = True,
    **metadata: Any,
) -> Any:
    """Declares a field of a config, or an option of a method.

    Args:
        default: A list or a mapping is copied for each config.
        constraints: Null, where the type allows it, always fulfils them.
        identity: False for a field about where or how a run runs; it does not identify the run. A
            function of the config for a field that has no effect beside some values of others.
        metadata: `acts_in`, a function of the experiment for a field that has no effect beside some
            values of another section; `identity_default`, the value with which a field does not
            identify a run either; `without_effect`, the value that identifies a run while the field
            has no effect (of a field without `identity_default`; default: its default); `path`,
            true for a path, which may come from the environment; `prose`, true for text that is
            shown to people, from which secrets are removed; `identified`, a function of the config
            that gives the value that identifies a run; `training_only`, true for an option of a
            method that changes nothing about what trained weights compute; `formerly`, the key of a
            renamed field in identities and in specs of runs before.
    """
    metadata = {"constraints": constraints, "identity": identity, **metadata}
    if isinstance(default, (list, dict)):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def at_least(low: float) -> Constraint:
    """Numbers from `low` upwards."""
    return Constraint(lambda value: bool(value >= low), f"at least {low}", {"minimum": low})


def above(low: float) -> Constraint:
    """Numbers greater than `low`."""
    return Constraint(lambda value: bool(value > low), f"above {low}", {"exclusiveMinimum": low})


def at_most(high: float) -> Constraint:
    """Numbers up to `high`."""
    return Constraint(lambda value: bool(value <= high), f"at most {high}", {"maximum": high})


def below(high: float) -> Constraint:
    """Numbers less than `high`."""
    return Constraint(lambda value: bool(value < high), f"below {high}", {"exclusiveMaximum": high})


def between(low: float, high: float, expected: str = "") -> Constraint:
    """Numbers from `low` to `high`, both included."""
    return Constraint(
        lambda value: bool(low <= value <= high),
        expected or f"between {low} and {high}",
        {"minimum": low, "maximum": high},
    )


def one_of(*choices: Any) -> Constraint:
    """The listed values."""
    listed = ", ".join(map(str, choices))
    return Constraint(lambda value: value in choices, f"one of {listed}", {"enum": [*choices]})


def matches(pattern: str, expected: str) -> Constraint:
    """Text that a regular expression matches as a whole."""
    return Constraint(
        lambda text: re.fullmatch(pattern, text) is not None,
        expected,
        {"pattern": f"^(?:{pattern})$"},
    )


NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"
"""Names that become names of files and folders: of rows, tables and figures."""
PROFILE = r"[A-Za-z0-9_]{1,40}"
"""Names of profiles, which become folders."""


def file_name() -> Constraint:
    """Names of rows, tables and figures."""
    return matches(NAME, "at most 100 letters, digits, `_`, `-` and `.`, the first no `-` or `.`")


def file_name_or_empty() -> Constraint:
    """The same, or no name."""
    return matches(f"(?:{NAME})?", "at most 100 letters, digits, `_`, `-` and `.`, or empty")


def one_line() -> Constraint:
    """Text without line breaks and control characters."""
    return Constraint(str.isprintable, "one line of text", {"pattern": r"^[^\n\r]*$"})


def not_blank(expected: str) -> Constraint:
    """Text that holds more than spaces."""
    return Constraint(lambda text: bool(text.strip()), expected, {"pattern": r"\S"})


def each(*constraints: Constraint) -> Constraint:
    """Lists whose elements fulfil constraints."""
    keywords = {name: value for c in constraints for name, value in c.keywords.items()}
    expected = f"each {all_expected(constraints)}"
    return Constraint(lambda _: True, expected, {"items": keywords}, elements=constraints)


def of_length(length: int) -> Constraint:
    """Lists of a fixed length."""
    keywords = {"minItems": length, "maxItems": length}
    return Constraint(lambda values: len(values) == length, f"{length} values", keywords)


def not_empty(element: str) -> Constraint:
    """Lists with at least one element."""
    return Constraint(bool, f"at least one {element}", {"minItems": 1})


def ascending() -> Constraint:
    """Lists of numbers in ascending order."""
    return Constraint(lambda values: values == sorted(values), "the lower one first", {})


def distinct(element: str) -> Constraint:
    """Lists without repetitions."""
    return Constraint(
        lambda values: len(set(values)) == len(values),
        f"each {element} at most once",
        {"uniqueItems": True},
    )


def all_expected(constraints: Collection[Constraint]) -> str:
    """The right values of a field with these constraints, in words."""
    separator = ", " if any(constraint.elements for constraint in constraints) else " and "
    return separator.join(constraint.expected for constraint in constraints)
