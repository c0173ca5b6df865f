"""Mistakes in a single value: another type, a unit, or text that YAML reads as something else."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from yaml.constructor import SafeConstructor

from antioversmooth.errors import question, similar

_TYPES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_READ_AS = {int: "a number", float: "a number", bool: "true or false"}
_TIMES = {
    **dict.fromkeys(("s", "sec", "second"), 1.0),
    **dict.fromkeys(("m", "min", "minute"), 60.0),
    **dict.fromkeys(("h", "hr", "hour"), 3600.0),
    **dict.fromkeys(("d", "day"), 86400.0),
    **dict.fromkeys(("w", "week"), 604800.0),
}
_SIZES = {
    **dict.fromkeys(("m", "mb", "mib"), 1 / 1024),
    **dict.fromkeys(("g", "gb", "gib"), 1.0),
    **dict.fromkeys(("t", "tb", "tib"), 1024.0),
}
_COUNTS = {"k": 1e3, "m": 1e6}
_UNITS: dict[str, tuple[str, dict[str, float]]] = {
    "s": ("seconds", _TIMES),
    "min": ("minutes", {unit: seconds / 60 for unit, seconds in _TIMES.items()}),
    "gb": ("GiB", _SIZES),
    "top1": ("percent", {"%": 1}),
}
"""Units by the ending of a key, or by its name, and factors from the units that people write."""


def complaint(
    value: Any, written: str, kind: Any, name: str, choices: Sequence[str] = ()
) -> str | None:
    """The mistake in a value, and the right form; None where it fits.

    Args:
        value: As YAML or the command line read it.
        written: The text; empty where it is quoted.
        kind: int, float, bool, str, or an Enum, whose choices are given.
        name: Last part of the key; its ending tells the unit.
        choices: The names that are possible; none: they are not listed.
    """
    if choices:
        return _wrong_choice(value, written, choices)
    if kind is str:
        return _not_as_written(value, written)
    if kind is bool:
        fits = isinstance(value, bool) or (
            isinstance(value, str) and value.lower() in SafeConstructor.bool_values
        )
        return None if fits else f"{written or value!r} is not true or false"
    return _no_number(value, written, kind, name)


def _wrong_choice(value: Any, written: str, choices: Sequence[str]) -> str | None:
    if value in choices:
        return None
    meant = question(similar(str(value), choices))
    hint = f"; {meant}" if meant else ""
    return f"{written or value!r} is none of {', '.join(choices)}{hint}"


def _not_as_written(value: Any, written: str) -> str | None:
    """`no` becomes false and `010` eight before anybody sees the text."""
    if isinstance(value, str) or str(value) == written:
        return None
    read = str(value).lower()
    if not written:
        # an item of a list on the command line, whose grammar keeps no text
        return f"{read} is read as {_READ_AS[type(value)]}; write a text in quotes"
    return f'{written} is read as {read}; for the text write "{written}"'


def _no_number(value: Any, written: str, kind: type, name: str) -> str | None:
    wanted = f"is not {_TYPES[kind]}"
    if isinstance(value, bool):
        return f"{written or value!r} {wanted}: it is read as {str(value).lower()}"
    if isinstance(value, str) or ":" in written:
        return _no_number_in(written or str(value), wanted, kind, name)
    if re.fullmatch(r"[-+]?0[0-7_]+", written):
        return f"{written} is read as {value}, as an octal number: leave out the leading 0"
    if kind is int and isinstance(value, float):
        right = f": write {value:.0f}" if value.is_integer() else ""
        return f"{written or value!r} {wanted}{right}"
    return _not_finite(value, written)


def _not_finite(value: float, written: str) -> str | None:
    try:
        return None if math.isfinite(value) else f"{written or value!r} is not a finite number"
    except OverflowError:
        # a whole number beyond every float
        return f"{(written or str(value))[:20]}... is not a number that a computer can work with"


def _no_number_in(text: str, wanted: str, kind: type, name: str) -> str | None:
    try:
        return _not_finite(kind(text), text)
    except ValueError:
        unit = _unit(text, name, kind)
        return f"{text!r} {wanted}{f': {unit}' if unit else ''}"


def _unit(text: str, name: str, kind: type) -> str | None:
    """Advice for a number with a unit, such as `24h` or `1:30:00`."""
    counted, factors = _UNITS.get(name.rpartition("_")[2], ("", {}))
    number = re.fullmatch(r"([-+]?\d+(?:\.\d+)?)\s*([A-Za-z]+|%)", text)
    clock = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", text)
    if counted and number:
        unit = number[2].lower()
        factor = factors.get(unit) or factors.get(unit.removesuffix("s"))
        return f"it counts {counted}, without a unit" + (
            f": write {_as(kind, float(number[1]) * factor):g}" if factor else ""
        )
    if clock and counted in ("seconds", "minutes"):
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        total = ((24 * days + hours) * 60 + minutes) * 60 + seconds
        return f"it counts {counted}: write {_as(kind, total * factors['s']):g}"
    if counted:
        return f"it counts {counted}"
    if number and number[2] == "%":
        return f"it is a fraction: write {float(number[1]) / 100:g}"
    if number and number[2].lower() in _COUNTS:
        return f"write {float(number[1]) * _COUNTS[number[2].lower()]:.0f}"
    if re.fullmatch(r"\d{1,3}(,\d{3})+", text):
        return f"write {text.replace(',', '')}"
    return "leave out the unit" if number else None


def _as(kind: type, amount: float) -> float:
    """An amount of the key's type, rounded up."""
    return math.ceil(amount) if kind is int else amount
