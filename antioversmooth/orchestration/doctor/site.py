"""The subject of an examination: a cluster profile, and runs that it would train."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from antioversmooth.config import ClusterConfig
from antioversmooth.errors import AntiOversmoothError, error_message
from antioversmooth.finding import Finding, Level, Place
from antioversmooth.runs import Run


@dataclass(frozen=True)
class Site:
    """A cluster profile, and runs that it would train."""

    cluster: ClusterConfig
    results: Path
    """The results folder of the runs."""
    runs: Sequence[Run] = ()
    """Runs of the specs; empty where none is named."""
    on_slurm: bool = False
    """Whether jobs are submitted, rather than run on this machine."""


Check = Callable[[Site], Iterator[Finding]]
"""One kind of question to this machine or to SLURM."""


def found_on_login(
    check: str, level: Level, text: str, advice: str = "", place: Place = Place.login
) -> Finding:
    """A finding of this machine."""
    return Finding(check, level, text, advice, place=place)


def examine(site: Site, name: str, check: Check) -> Iterator[Finding]:
    """The findings of a check; an error of its question is one."""
    try:
        yield from check(site)
    except (AntiOversmoothError, OSError) as err:
        yield found_on_login(name, Level.wrong, error_message(err))
