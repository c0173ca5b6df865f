"""The inspection of a node by one rank: all probes, in order."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from antioversmooth.errors import ResultError
from antioversmooth.finding import Finding, Place
from antioversmooth.runs import Run
from antioversmooth.training.probes import catalogue
from antioversmooth.training.probes.context import Context, Probe, wrong
from antioversmooth.training.probes.exchange import Exchange
from antioversmooth.training.probes.guarded import run_probe
from antioversmooth.training.probes.report import Report
from antioversmooth.training.probes.request import APPEARS_WITHIN_S, REQUEST, ProbeRequest
from antioversmooth.training.run.distributed import rank_from_env
from antioversmooth.training.run.signals import StopRequest

POLL_S = 0.2


def inspect(folder: Path, stop: StopRequest) -> bool:
    """Makes all probes and writes what they find.

    Returns:
        Whether every probe has ended; what is left of one that hangs ends with the process.

    Raises:
        LaunchError: There is a request, and it cannot be read.
    """
    info = rank_from_env(os.environ)
    request = _appeared(folder)
    exchange = Exchange(info)
    context = Context(
        request or ProbeRequest(info.local_world_size), folder, info, exchange, stop=stop
    )
    report = Report(folder if request else None, info.rank, context.host)
    inspection = _Inspection(context, report)
    inspection.make_all(has_request=request is not None)
    patience_s = context.request.limit_s + context.request.signal_wait_s
    inspection.context.exchange.within("all probes", patience_s).leave()
    if inspection.ended:
        context.established.connection.close()
    return inspection.ended


def _appeared(folder: Path) -> ProbeRequest | None:
    """The request; None where this machine does not see it in time."""
    deadline = time.monotonic() + APPEARS_WITHIN_S
    while not (folder / REQUEST).exists():
        if time.monotonic() > deadline:
            return None
        time.sleep(POLL_S)
    return ProbeRequest.read(folder)


class _Inspection:
    """The probes of one rank, made one after the other."""

    def __init__(self, context: Context, report: Report) -> None:
        self.context, self.report = context, report
        self.ended = True
        """Whether every probe has ended by itself."""
        self._patience_s = context.request.limit_s
        """Seconds that this rank waits for the others before a probe."""
        self._apart = ""
        """The reason why the ranks cannot wait for each other any more; empty: they can."""

    def make_all(self, *, has_request: bool) -> None:
        """Makes the probes that this rank and all ranks can make."""
        if has_request:
            self.context = replace(self.context, runs=self._runs())
            self._make(catalogue.ALONE)
        self._make([catalogue.MEETING_POINT])
        self._meet(has_request)
        if not has_request:
            return
        self._make(catalogue.TOGETHER, together=True)
        for run, of_data in trained(self.context.runs):
            self.context = replace(self.context, run=run)
            # what a rank finds of data by itself, it finds also where the ranks do not meet
            self._make(of_data, together=not self._apart)
            self._make([catalogue.STEPS], together=True)
        if self._apart:
            text = f"probes that need all ranks were not made, or not to their end: {self._apart}"
            advice = "mend what else is wrong first, and look at the logs of the ranks"
            self.report.add(wrong("ranks", text, advice))
        self._make([catalogue.LAST])

    def _runs(self) -> tuple[Run, ...]:
        """The runs of the request."""
        try:
            return tuple(Run.load(Path(directory)) for directory in self.context.request.runs)
        except ResultError as err:
            advice = "antioversmooth doctor prepares the runs anew each time: run it again"
            self.report.add(wrong("spec", str(err), advice, Place.model))
            return ()

    def _meet(self, has_request: bool) -> None:
        """Has the ranks exchange values, and rank 0 report those that do not see the folder."""
        info, store = self.context.info, self.context.established.store
        self.context = replace(self.context, exchange=Exchange(info, store))
        if store is None:
            self._apart = "the ranks do not meet" if info.world_size > 1 else ""
            return
        blind = None if has_request else self.context.host
        gathered = self._gather("meet", [blind, len(self.context.runs)])
        hosts = [host for host, _ in gathered]
        if any(host is None and loaded < len(self.context.runs) for host, loaded in gathered):
            # another rank cannot read them, and says so
            self.context = replace(self.context, runs=())
        if missing := sorted(set(filter(None, hosts))):
            self._apart = f"{', '.join(missing)} does not see {self.context.folder}"
        if missing and hosts.index(None) == info.rank:
            self.report.add(blind_nodes(self.context.folder, missing))

    def _make(self, probes: Sequence[Probe], *, together: bool = False) -> None:
        """Makes probes until the scheduler or a person asks to end."""
        for probe in probes:
            if self._is_asked_to_end():
                return
            if together and not self._apart:
                self._gather(f"before {self._key(probe)}")
            if not (together and self._apart):
                key = self._key(probe)
                # another rank may need all of its time for this probe
                request = self.context.request
                self._patience_s = probe.limit_s(request) + request.limit_s
                self.report.begin(self._words(probe))
                self.ended &= run_probe(probe, key, self.context, self.report.add)

    def _words(self, probe: Probe) -> str:
        """The name of a probe for people, with its time limit."""
        of = f" of {self.context.run.name}" if self.context.run else ""
        return f"{probe.name}{of}, for at most {probe.limit_s(self.context.request):g} s"

    def _key(self, probe: Probe) -> str:
        """The name of a probe in the exchange of values, the same on all ranks."""
        run = self.context.run
        return f"{probe.name} {run.dir if run else ''}"

    def _is_asked_to_end(self) -> bool:
        """Whether scheduler or person want an end; a signal that is waited for may come early."""
        stop = self.context.stop
        stop.check_parents()
        if not stop.action.stops or self.context.request.signal_wait_s:
            return False
        self._apart = f"asked to end ({stop.action.name})"
        return True

    def _gather(self, key: str, value: Any = None) -> list[Any]:
        """Every rank's value, once all are here; notes those that do not come."""
        try:
            return self.context.exchange.within(key, self._patience_s).gather(value)
        except (TimeoutError, ConnectionError) as err:
            self._apart = str(err)
            return []


def blind_nodes(folder: Path, hosts: Sequence[str]) -> Finding:
    """The finding that nodes do not see the folder of the request."""
    return wrong(
        "shared folder",
        f"{', '.join(hosts)} does not see {folder}, which the login node and other nodes see",
        "cluster.results must be on a file system that all nodes mount, such as NFS or Lustre",
    )


def trained(planned: Sequence[Run]) -> Iterator[tuple[Run, Sequence[Probe]]]:
    """The runs that train, each with the probes of data that the run before did not answer."""
    before: Run | None = None
    for run in planned:
        if not run.experiment.recipe.epochs:
            continue
        probes = []
        if before is None or before.experiment.data != run.experiment.data:
            probes.append(catalogue.DATA)
        if before is None or _views(before) != _views(run):
            probes.append(catalogue.DECODING)
        yield run, probes
        before = run


def _views(run: Run) -> object:
    """The parts of a spec that the work of making a view depends on."""
    config = run.experiment
    return config.data, config.recipe, config.model.image_size
