"""A check of one value, and its outcome."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from antioversmooth.runs.agreement import equal, shortened


class Verdict(Enum):
    """The outcome of a check, the worst first."""

    differs = "differs"
    """The runs have another value."""
    foreign = "foreign"
    """The run that was found is not the table's: its spec was edited, or its identity differs."""
    gone = "gone"
    """The source of the value is not here: the runs, a file of a run, or its data."""
    confirmed = "confirmed"
    underivable = "not derivable"
    """Nothing but the value itself tells it."""


@dataclass(frozen=True)
class Check:
    """One committed value, or one file of a run, and the outcome."""

    key: str
    """In the row of the JSON: top1.mean, seeds[0].result.parameters; or the checked part of a
    run."""
    verdict: Verdict
    committed: Any = None
    derived: Any = None
    reason: str = ""
    """The difference, or the missing thing; empty where the value is confirmed."""
    absent_run: bool = False
    """Whether the reason is about the whole run, which other values come from, too."""

    def __str__(self) -> str:
        return f"{self.key}: {self.reason}"


def compare(key: str, committed: Any, derived: Any, difference: str) -> Check:
    """The check of two values.

    Args:
        difference: Reason where they differ, with the places of both.
    """
    if equal(committed, derived):
        return Check(key, Verdict.confirmed, committed, derived)
    reason = difference.format(shortened(committed), shortened(derived))
    return Check(key, Verdict.differs, committed, derived, reason)
