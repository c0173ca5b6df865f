"""Room for the processes of the runs, and their hours by the speeds that are known."""

from __future__ import annotations

from collections.abc import Iterator

from antioversmooth.errors import SpecError, UserError
from antioversmooth.finding import Finding, Level, Place
from antioversmooth.orchestration import preflight
from antioversmooth.orchestration.backend import Backend
from antioversmooth.orchestration.doctor.site import Site, found_on_login
from antioversmooth.orchestration.estimate import Estimator
from antioversmooth.runs.record import RunRecord


def placements(site: Site, backend: Backend) -> Iterator[Finding]:
    """Findings of runs that a launch refuses, since their processes have no room here."""
    for run in site.runs:
        try:
            preflight.check_machine([run], backend)
        except UserError as err:
            yield found_on_login("placement", Level.wrong, str(err), place=Place.model)


def costs(site: Site, backend: Backend) -> Iterator[Finding]:
    """A finding for each run that is not done, and one for all of them."""
    records = [RunRecord.read(run) for run in site.runs]
    estimator = Estimator(records)
    total = total_wall = 0.0
    count = 0
    for record in records:
        if record.result is not None:
            continue
        run = record.run
        try:
            placement = backend.placement(run.experiment)
        except SpecError:
            # a finding of its own
            continue
        estimate = estimator.estimate(record, on_gpu=placement.on_gpu)
        hours = estimate.device_hours
        if hours is None:
            text = f"{run.name}: {estimate.source}"
            yield Finding("cost", Level.ok, text, place=Place.model)
            continue
        wall = hours / placement.processes
        total, total_wall, count = total + hours, total_wall + wall, count + 1
        text = (
            f"{run.name}: {wall:,.2f} hours on {placement.device},"
            f" {hours:,.2f} device-hours ({estimate.source})"
        )
        values = {"run": run.name, "hours": wall, "device_hours": hours, "source": estimate.source}
        yield Finding("cost", Level.ok, text, values=values, place=Place.model)
    if count > 1:
        text = f"{count} runs: {total:,.2f} device-hours, {total_wall:,.2f} hours one after another"
        values = {"hours": total_wall, "device_hours": total}
        yield Finding("cost of all", Level.ok, text, values=values, place=Place.model)
