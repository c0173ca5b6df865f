"""Overrides, `key=value`, as nodes with their places. Their grammar is hydra's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antioversmooth.spec.problems import Place, Problem
from antioversmooth.spec.source import Node

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override


@dataclass
class CommandLine:
    """The parsed overrides of a request."""

    choices: dict[str, Node] = field(default_factory=dict)
    """`profile=mini`: the option of a group of the experiments folder."""
    settings: list[Node] = field(default_factory=list)
    """`recipe.epochs=3`: each a mapping with one value in it."""
    problems: list[Problem] = field(default_factory=list)


def read_overrides(overrides: Sequence[str], folder: Path) -> CommandLine:
    """Reads overrides with hydra's own grammar.

    Args:
        folder: The experiments folder; each folder in it is a group.
    """
    groups = {path.name for path in folder.iterdir() if path.is_dir()}
    line, seen = CommandLine(), set()
    for text in overrides:
        override = _parsed(text)
        key = override.key_or_group if override else ""
        if override is None or not key:
            line.problems.append(_no_override(text))
        elif key in seen:
            line.problems.append(Problem(_place(text, 0, len(text)), key, "is given twice"))
        else:
            _add(line, text, override, groups)
        seen.add(key)
    return line


def key_of(override: str) -> str:
    """The key or the group that an override is about."""
    return override.lstrip("+~").partition("=")[0]


def _parsed(text: str) -> Override | None:
    # only here: a help text needs no hydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(text)
    except (HydraException, RecursionError):
        return None


def _place(text: str, start: int, end: int) -> Place:
    return Place("command line", 0, start + 1, text, end - start)


def _no_override(text: str) -> Problem:
    key, equals, _ = text.partition("=")
    if not equals or not key:
        message = "this is no override; write key=value, such as recipe.epochs=1"
        return Problem(_place(text, 0, len(text)), "", message)
    reason = f"cannot be read; quote what has spaces or special characters: {key}='\"...\"'"
    return Problem(_place(text, len(key) + 1, len(text)), key.strip("+~"), reason)


def _add(line: CommandLine, text: str, override: Override, groups: set[str]) -> None:
    key = override.key_or_group
    equals = text.index("=") if "=" in text else len(text)
    value = text[equals + 1 :]
    at_key, at_value = _place(text, text.index(key), equals), _place(text, equals + 1, len(text))
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


def _not_possible(override: Override, value: str) -> str | None:
    if override.is_delete():
        return "no key and no default can be left out; give it another value"
    if override.package is not None:
        return "`@` belongs into the `defaults` of a file"
    if override.is_sweep_override():
        return f"{value!r} is several values, and each row is one run a seed; launch once for each"
    if (override.is_add() or override.is_force_add()) and not _is_free(override.key_or_group):
        return "leave out the `+`"
    return None


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
