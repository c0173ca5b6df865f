"""What the dataclasses of a spec share: fields outside the identity, and rules that are raised
together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path
from typing import Any, Protocol

from antioversmooth.errors import SpecError

MISSING: Any = "???"
"""OmegaConf's mark of a value that a spec must give; written out, since the models are used without
OmegaConf too."""


def absolute(path: str) -> str:
    """The path as every process can open it: a run is resumed from other folders than it was
    launched in."""
    return str(Path(path).expanduser().absolute())


def off_identity(default: Any = MISSING) -> Any:
    """A field that says where or how a run runs, and so does not identify it."""
    return field(default=default, metadata={"identity": False})


class Require(Protocol):
    """Says one rule of a config: the dotted key, its value, and what would be right where the
    condition is false."""

    def __call__(self, condition: bool, key: str, value: object, right: str) -> None: ...


@contextmanager
def rules() -> Iterator[Require]:
    """Collects the rules that a config breaks, the first one of each key, and raises them together
    at its end.

    Raises:
        SpecError: One for each broken rule in `parts`.
    """
    broken: dict[str, SpecError] = {}

    def require(condition: bool, key: str, value: object, right: str) -> None:
        if not condition:
            broken.setdefault(key, SpecError(f"{value!r} is not possible: {right}", where=key))

    yield require
    if broken:
        raise SpecError.together(list(broken.values()))
