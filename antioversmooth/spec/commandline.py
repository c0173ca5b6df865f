"""Overrides, `key=value`, as nodes with their places. Their grammar is hydra's, sweeps included:
`key=a,b`, `key=choice(a,b)` and `key=range(1,4)` are several values."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from antioversmooth.config.types import element_type
from antioversmooth.spec import fields
from antioversmooth.spec.problems import Place, Problem
from antioversmooth.spec.source import Node

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

    Parsed: TypeAlias = "Override | PlainOverride"


@dataclass
class CommandLine:
    """The parsed overrides of a request."""

    choices: dict[str, Node] = field(default_factory=dict)
    """`profile=mini`: the option of a group of the experiments folder."""
    settings: list[Node] = field(default_factory=list)
    """`recipe.epochs=3`: each a mapping with one value in it."""
    problems: list[Problem] = field(default_factory=list)

    def after(self, earlier: CommandLine) -> CommandLine:
        """This command line, with overrides that come before its own."""
        return CommandLine(
            {**earlier.choices, **self.choices},
            [*earlier.settings, *self.settings],
            [*earlier.problems, *self.problems],
        )


COMMAND_LINE = "command line"


def read_overrides(
    overrides: Sequence[str], folder: Path, source: str = COMMAND_LINE
) -> CommandLine:
    """Reads overrides with hydra's own grammar.

    Args:
        folder: The experiments folder; each folder in it is a group.
        source: Where they are written, for messages.
    """
    groups = {path.name for path in folder.iterdir() if path.is_dir()}
    line, seen = CommandLine(), set()
    for text in overrides:
        override = _parsed(text)
        key = override.key_or_group if override else ""
        if override is None or not key:
            line.problems.append(_no_override(source, text))
        elif key in seen:
            line.problems.append(Problem(_place(source, text, 0, len(text)), key, "is given twice"))
        else:
            _add(line, source, text, override, groups)
        seen.add(key)
    return line


def read_settings(overrides: Sequence[str]) -> list[Node]:
    """The overrides of fields, each as a mapping; an option of a group is its text."""
    line = CommandLine()
    for text in overrides:
        if override := _parsed(text):
            _add(line, COMMAND_LINE, text, override, set())
    return line.settings


def key_of(override: str) -> str:
    """The key or the group that an override is about."""
    return override.lstrip("+~").partition("=")[0]


def merged(earlier: Sequence[str], later: Sequence[str]) -> list[str]:
    """Overrides of which the later ones replace earlier ones of the same key."""
    replaced = set(map(key_of, later))
    return [*(text for text in earlier if key_of(text) not in replaced), *later]


MOST_VALUES = 10_000
"""Values of an override that are read; no request has more rows."""


@dataclass(frozen=True)
class Axis:
    """A key with several values, and an override for each of them."""

    key: str
    overrides: tuple[str, ...]


def split_sweeps(overrides: Sequence[str]) -> tuple[list[str], list[Axis]]:
    """The overrides with one value, and those with several, one axis each.

    Fields that do not identify a run have no axis: their texts may hold commas.
    """
    fixed, axes = [], []
    for text in overrides:
        values = _swept_values(text)
        if values:
            axes.append(Axis(key_of(text), tuple(f"{key_of(text)}={one}" for one in values)))
        else:
            fixed.append(text)
    return fixed, axes


def _swept_values(text: str) -> list[str]:
    """The values of an override as texts; none where it is no sweep."""
    # most overrides are not parsed twice
    may_sweep = {",", "("} & set(text) and text[0] not in "+~"
    override = _parsed_by_hydra(text) if may_sweep else None
    if override is None or not override.is_sweep_override() or override.package is not None:
        return []
    # only here: a help text needs no hydra
    from hydra.core.override_parser.types import ChoiceSweep, RangeSweep

    is_listed = isinstance(override.value(), (ChoiceSweep, RangeSweep))
    if not is_listed or not fields.identifies(override.key_or_group):
        return []
    plain = islice(override.sweep_iterator(), MOST_VALUES + 1)
    escaped = islice(override.sweep_string_iterator(), MOST_VALUES + 1)
    return [_as_written(one, text) for one, text in zip(plain, escaped, strict=True)]


def _as_written(value: Any, escaped: str) -> str:
    """A value of a sweep as one would write it alone: without escapes, where none is needed."""
    alone = _parsed(f"key={value}") if isinstance(value, str) else None
    return value if alone and alone.value() == value else escaped


@dataclass(frozen=True)
class PlainOverride:
    """An override with a word or a number, as nearly all have, in the place of hydra's own class.

    hydra's grammar reads it alike, and takes longer to load than a row to compose.
    """

    key_or_group: str
    plain: str | int
    package: None = None

    def value(self) -> str | int:
        """The word or the number."""
        return self.plain

    def _no(self) -> bool:
        return False

    is_delete = is_add = is_force_add = is_sweep_override = _no


_PLAIN = re.compile(
    r"([a-z]\w*(?:(?:\.[a-z]\w*)*|(?:/[a-z]\w*)*))"
    r"=(?:(0|[1-9]\d{0,8})|((?!(?i:true|false|null|nan|inf)$)[a-z]\w*))",
    re.ASCII,
)


def _parsed(text: str) -> Parsed | None:
    if plain := _PLAIN.fullmatch(text):
        key, number, word = plain.groups()
        return PlainOverride(key, word or int(number))
    return _parsed_by_hydra(text)


def _parsed_by_hydra(text: str) -> Override | None:
    # only here: a help text needs no hydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(text)
    except (HydraException, RecursionError):
        return None


def _place(source: str, text: str, start: int, end: int) -> Place:
    return Place(source, 0, start + 1, text, end - start)


def _no_override(source: str, text: str) -> Problem:
    key, equals, _ = text.partition("=")
    if not equals or not key:
        message = "this is no override; write key=value, such as recipe.epochs=1"
        return Problem(_place(source, text, 0, len(text)), "", message)
    if any(not part.strip() for part in text[len(key) + 1 :].split(",")) and "," in text:
        reason = "has a comma and no value beside it; values of a sweep are written a,b"
        return Problem(_place(source, text, len(key) + 1, len(text)), key.strip("+~"), reason)
    reason = f"cannot be read; quote what has spaces or special characters: {key}='\"...\"'"
    return Problem(_place(source, text, len(key) + 1, len(text)), key.strip("+~"), reason)


def _add(line: CommandLine, source: str, text: str, override: Parsed, groups: set[str]) -> None:
    key = override.key_or_group
    equals = text.index("=") if "=" in text else len(text)
    value = text[equals + 1 :]
    at_key = _place(source, text, text.index(key), equals)
    at_value = _place(source, text, equals + 1, len(text))
    is_text = override.is_sweep_override() and not fields.identifies(key) and key not in groups
    if is_text and (plain := _plain_text(key, value)) is not None:
        override, value = plain, ""
    if wrong := _not_possible(override, value):
        place = at_value if override.is_sweep_override() else at_key
        line.problems.append(Problem(place, key, wrong))
        return
    node = _node(override.value(), at_value, at_key, value)
    if "/" in key or key in groups:
        line.choices[key] = node
    else:
        for name in reversed(key.split(".")):
            node = Node({name: node}, at_value, at_key)
        line.settings.append(node)


def _not_possible(override: Parsed, value: str) -> str | None:
    if override.is_delete():
        return "no key and no default can be left out; give it another value"
    if override.package is not None:
        return "`@` belongs into the `defaults` of a file"
    if (override.is_add() or override.is_force_add()) and not _is_free(override.key_or_group):
        return "leave out the `+`"
    return _not_swept(override, value) if override.is_sweep_override() else None


def _not_swept(override: Parsed, value: str) -> str:
    """Why a key has one value here."""
    if override.key_or_group == "profile":
        return f"{value!r}: each profile has a results folder of its own; launch once for each"
    if not fields.identifies(override.key_or_group):
        right = "a sweep is of what changes a run; launch once for each"
        return f"{value!r} is several values, and {right}"
    if re.match(r"(glob|interval)\(", value):
        return f"{value!r} is no list of values; write them with commas between them"
    return f"{value!r} is several values, and one belongs here"


def _plain_text(key: str, value: str) -> Parsed | None:
    """The text with commas, or the list of texts, that a key is given; None for other types."""
    kind = str if _is_free(key) else fields.kind_of(key)
    if "(" in value or str not in (kind, element_type(kind)):
        return None
    return _parsed(f"{key}={json.dumps(value)}" if kind is str else f"{key}=[{value}]")


def _is_free(key: str) -> bool:
    """Whether keys below this one are the user's own, so that an override may bring a new one."""
    return f"{key}.".startswith(("cluster.sbatch.", "cluster.srun."))


def _node(value: Any, place: Place, key_place: Place, text: str) -> Node:
    """A node for a value; all its parts have the place of the whole."""
    if isinstance(value, dict):
        parts = {str(key): _node(part, place, key_place, "") for key, part in value.items()}
        return Node(parts, place, key_place)
    if isinstance(value, list):
        return Node([_node(part, place, key_place, "") for part in value], place, key_place)
    return Node(value, place, key_place, text)
