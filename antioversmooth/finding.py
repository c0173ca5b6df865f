"""Findings of `doctor`, as lines of JSON that both planes read and write."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from antioversmooth.errors import ResultError
from antioversmooth.shapes import misfits


class Level(Enum):
    """How serious a finding is."""

    ok = "ok"
    warning = "warning"
    """Runs work, but slower, or with less help when something fails."""
    wrong = "wrong"
    """Runs would fail, or their results could be damaged."""


class Place(Enum):
    """Subject of a finding, in the order of the report."""

    login = "login node"
    nodes = "nodes"
    gpus = "GPUs"
    data = "data"
    model = "model"


def _one_of(kind: type[Enum]) -> re.Pattern[str]:
    """The shape of a value of an enum."""
    return re.compile("|".join(re.escape(str(one.value)) for one in kind))


_SHAPE = {
    "check": str,
    "level": _one_of(Level),
    "text": str,
    "advice": str,
    "values": dict,
    "place": _one_of(Place),
}


@dataclass(frozen=True)
class Finding:
    """One fact that a check established, with its judgement."""

    check: str
    """Name of the check: a few words, the same on every rank."""
    level: Level
    text: str
    """One sentence, with numbers and units."""
    advice: str = ""
    """The remedy of a warning or of something wrong; empty where all is well."""
    values: dict[str, Any] = field(default_factory=dict)
    """Numbers and names for programs, as JSON types; keys end with their unit."""
    place: Place = Place.nodes

    def to_line(self) -> str:
        """One line of JSON, without the line break."""
        return json.dumps({**asdict(self), "level": self.level.value, "place": self.place.value})

    @classmethod
    def from_line(cls, line: str) -> Finding:
        """The finding of a line that `to_line` wrote.

        Raises:
            ResultError: The line is torn, or no finding.
        """
        try:
            # numbers that are not finite have no place in the report
            value = json.loads(line, parse_constant=str)
        except ValueError as err:
            raise ResultError(f"no line of JSON: {err}") from err
        if problems := list(misfits(value, _SHAPE, "finding")):
            raise ResultError("; ".join(problems))
        known = {name: value[name] for name in _SHAPE}
        return cls(**{**known, "level": Level(value["level"]), "place": Place(value["place"])})
