"""All exceptions that this project raises on purpose.

AntiOversmoothError
├── UserError             the user can correct it: one message, exit code 2, no traceback
│   ├── SpecError         a spec, a table or an override on the command line
│   ├── ModelError        a backbone that a scaling cannot be added to or removed from
│   ├── DataError         a data folder or file that is missing, or differs from the spec
│   ├── CheckpointError   weights that are missing, torn, of another model, or not finite
│   ├── LaunchError       the back end refuses: no such partition, no space left, already running
│   └── TrackingError     MLflow does not answer or refuses; training and tables go on without it
├── ResultError           an invalid result: edited, torn, or of another identity
└── AttemptEnded          ends the attempt of a running job with a named reason
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path


class AntiOversmoothError(Exception):
    """Base class of all errors below."""


class UserError(AntiOversmoothError):
    """A mistake that the user can correct; shown as one message, exit code 2."""


class SpecError(UserError):
    """A spec that cannot be used.

    Args:
        message: What is wrong and what would be right.
        where: The file, and the dotted key if there is one, as `experiments/deit_s12.yaml:
            model.depth`.
        keys: The dotted keys that a broken rule is about; the first one has the wrong value.
        parts: The mistakes that it is made of, where it stands for several.
    """

    def __init__(
        self,
        message: str,
        *,
        where: str = "",
        keys: Sequence[str] = (),
        parts: Sequence[SpecError] = (),
    ) -> None:
        super().__init__(f"{where}: {message}" if where else message)
        self.message, self.where, self.keys = message, where, tuple(keys)
        self._parts = tuple(parts)

    @property
    def parts(self) -> tuple[SpecError, ...]:
        """Each mistake by itself."""
        return self._parts or (self,)

    @classmethod
    def together(cls, errors: Sequence[SpecError]) -> SpecError:
        """One error that says them all, each on a line of its own."""
        parts = [part for error in errors for part in error.parts]
        return parts[0] if len(parts) == 1 else cls("\n".join(map(str, parts)), parts=parts)


class ModelError(UserError):
    """A backbone that does not support a scaling; the message names the module."""


class DataError(UserError):
    """Data that is missing or differs from the spec."""


class CheckpointError(UserError):
    """Weights that are missing, torn, of another model, or not finite."""


class LaunchError(UserError):
    """The back end cannot start this run now."""


class TrackingError(UserError):
    """MLflow does not answer, or refuses a request."""


class ResultError(AntiOversmoothError):
    """A run directory whose content contradicts itself."""


class AttemptEnded(AntiOversmoothError):
    """Ends an attempt before the run is complete.

    Args:
        reason: One of `attempts.EndReason`'s values.
        message: Shown in the log and by `why`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def error_message(error: Exception) -> str:
    """The message of an error; for an error of the system its file and reason, without a number."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    if not error.filename:
        return error.strerror
    owner = other_owner(error.filename) if isinstance(error, PermissionError) else ""
    return f"{error.filename}: {error.strerror}{owner}"


def other_owner(path: str | bytes | int | os.PathLike[str]) -> str:
    """A remark on the person whose file or folder denies access; empty for one's own or root's.

    It is the file, or the nearest folder above it that can be seen.
    """
    if isinstance(path, int):
        return ""
    place = Path(os.path.abspath(os.fsdecode(path)))
    for seen in (place, *place.parents):
        with suppress(OSError):
            owner = seen.stat().st_uid
            return "" if owner in (0, os.geteuid()) else f" ({seen} belongs to {_user(owner)})"
    return ""


def _user(number: int) -> str:
    """The name of a user, or its number where it has none."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def and_more(items: Sequence[str], limit: int) -> str:
    """At most so many items, and the number of the others: a, b and 3 more."""
    shown = ", ".join(items[:limit])
    return f"{shown} and {len(items) - limit} more" if len(items) > limit else shown


FEW = 8
"""Names that a message lists; of more it lists the most similar."""


def similar(word: str, known: Iterable[str], count: int = 2, cutoff: float = 0.6) -> list[str]:
    """The names that resemble a word, the nearest first; those that differ in case alone win.

    Args:
        cutoff: Least similarity, as of difflib, between 0 and 1.
    """
    names: dict[str, list[str]] = {}
    for name in known:
        names.setdefault(name.lower(), []).append(name)
    lower = word.lower()
    near = [lower] if lower in names else get_close_matches(lower, names, count, cutoff)
    return [name for found in near for name in names[found]][:count]


def did_you_mean(word: str, known: Collection[str]) -> str:
    """`did you mean a or b?`, or the known names where none is similar."""
    return question(similar(word, known)) or there_are(known, word)


def question(close: Collection[str]) -> str:
    """`did you mean a or b?`; empty without suggestions."""
    return f"did you mean {' or '.join(f'`{name}`' for name in close)}?" if close else ""


def there_are(known: Collection[str], word: str = "") -> str:
    """The known names; of many the most similar to a word."""
    if word and len(known) > FEW:
        nearest = similar(word, known, FEW // 2, cutoff=0.0)
        return f"there are {len(known)}, nearest to it {', '.join(nearest)}"
    return (
        f"there {'is' if len(known) == 1 else 'are'} {', '.join(known)}"
        if known
        else "there is none"
    )
