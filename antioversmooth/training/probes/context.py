"""Facts that a probe is given."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from torch._C._distributed_c10d import Store

from antioversmooth.datasets.dataset import ImageDataset
from antioversmooth.finding import Finding, Level, Place
from antioversmooth.runs import Run
from antioversmooth.training.probes.exchange import Exchange
from antioversmooth.training.probes.request import ProbeRequest
from antioversmooth.training.run.distributed import RankInfo, Ranks
from antioversmooth.training.run.signals import StopRequest


@dataclass
class Established:
    """Results of probes that later ones build on."""

    store: Store | None = None
    """Store that the ranks are connected to, by the probe of the meeting point."""
    has_interfaces: bool = True
    """Whether the node has the interfaces that variables name."""
    ranks: Ranks | None = None
    """The connected ranks, by the probe of the process group."""
    connection: ExitStack = field(default_factory=ExitStack)
    """Closes the process group."""
    dataset: ImageDataset | None = None
    views_per_s: float | None = None
    """Views that one core makes in a second."""
    rates: Mapping[str, float] = field(default_factory=dict)
    """The same, by the way of making them; empty where the images are arrays."""


@dataclass(frozen=True)
class Context:
    """One rank, its request, and its connection to the other ranks."""

    request: ProbeRequest
    folder: Path
    """Folder of the request, which all ranks share."""
    info: RankInfo
    exchange: Exchange
    host: str = field(default_factory=socket.gethostname)
    stop: StopRequest = field(default_factory=StopRequest)
    runs: tuple[Run, ...] = ()
    """Runs of the request."""
    run: Run | None = None
    """The one of them that is probed now."""
    established: Established = field(default_factory=Established)

    @property
    def is_main(self) -> bool:
        return self.info.rank == 0


def usual_limit(request: ProbeRequest) -> float:
    """The time limit of most probes, in seconds."""
    return request.limit_s


def hangs(context: Context, limit_s: float) -> Finding | None:
    """Returns None: a probe that takes longer than it may hangs."""
    return None


@dataclass(frozen=True)
class Probe:
    """A named part of the inspection, which yields findings as it goes."""

    name: str
    look: Callable[[Context], Iterator[Finding]]
    place: Place = Place.nodes
    limit_s: Callable[[ProbeRequest], float] = usual_limit
    """Seconds after which it counts as hung."""
    late: Callable[[Context, float], Finding | None] = hangs
    """The finding of one that is slow rather than hung after its seconds; None: it hangs."""


def ok(check: str, text: str, place: Place = Place.nodes, **values: object) -> Finding:
    """A finding that is all right."""
    return Finding(check, Level.ok, text, values=values, place=place)


def warning(
    check: str, text: str, advice: str, place: Place = Place.nodes, **values: object
) -> Finding:
    """A finding of something that works, but badly."""
    return Finding(check, Level.warning, text, advice, values, place)


def wrong(
    check: str, text: str, advice: str, place: Place = Place.nodes, **values: object
) -> Finding:
    """A finding of something that runs would fail of."""
    return Finding(check, Level.wrong, text, advice, values, place)
