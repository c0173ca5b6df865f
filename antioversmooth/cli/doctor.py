"""Handler of `doctor`: whether runs will work here."""

from __future__ import annotations

import signal
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from antioversmooth import spec
from antioversmooth.cli.exit_codes import FAILED, INTERRUPTED, OK
from antioversmooth.cli.parsers import option_overrides, split_overrides
from antioversmooth.cli.requests import print_json
from antioversmooth.errors import SpecError, TrackingError
from antioversmooth.finding import Finding, Level
from antioversmooth.orchestration import backend, devices
from antioversmooth.orchestration.backend import Backend
from antioversmooth.orchestration.devices import Placement
from antioversmooth.orchestration.doctor import report, speeds
from antioversmooth.orchestration.doctor.costs import costs, placements
from antioversmooth.orchestration.doctor.examination import Examination, login_findings
from antioversmooth.orchestration.doctor.report import Report
from antioversmooth.orchestration.doctor.site import Site, found_on_login
from antioversmooth.orchestration.local.inline import InlineBackend
from antioversmooth.orchestration.local.pool import LocalBackend
from antioversmooth.orchestration.slurm.backend import SlurmBackend
from antioversmooth.project import find_root, find_spec
from antioversmooth.reporting.tracking.checks import require_usable, without_credentials
from antioversmooth.reporting.tracking.database import refusals, store_uri


def doctor_command(args: Namespace) -> int:
    """Examines this machine and the nodes; returns FAILED where something is wrong."""
    choice = backend.choose(
        args.backend, slurm=SlurmBackend(), local=LocalBackend(), inline=InlineBackend()
    )
    site = _site(args, on_slurm=choice.backend.submits)
    _say(f"Back end: {choice.backend.name} ({choice.reason})")
    examination = Examination(site, args.wait, _say)
    found: list[Finding] = []
    is_interrupted = False
    try:
        with _ended_by_ctrl_c():
            _examine(examination, choice.backend, found, with_nodes=not args.no_job)
    except KeyboardInterrupt:
        is_interrupted = True
        text = "ended by Ctrl-C or SIGTERM before all was examined"
        found.append(found_on_login("interrupted", Level.warning, text, "start it again"))
    command = " ".join(["antioversmooth doctor", *_typed(args)])
    result = Report(found, site.cluster, examination.nodes, command)
    print_json(result.to_json()) if args.json else report.show(result, sys.stdout)
    if is_interrupted:
        return INTERRUPTED
    return FAILED if result.is_wrong else OK


def _examine(
    examination: Examination, chosen: Backend, found: list[Finding], *, with_nodes: bool
) -> None:
    """Adds all findings, each as soon as it is there; says those that are not ok.

    Raises:
        KeyboardInterrupt: A person or SIGTERM ended it.
    """
    site = examination.site
    for finding in login_findings(site):
        _add(finding, found)
    _add(_tracking(find_root() / "results"), found)
    for finding in placements(site, chosen):
        _add(finding, found)
    if with_nodes:
        # those of the probes were said as they were made
        for finding in _examine_nodes(examination, chosen, [*found]):
            found.append(finding)
    found += _costs(site, chosen, found)


def _add(finding: Finding, found: list[Finding]) -> None:
    found.append(finding)
    if finding.level is not Level.ok:
        _say(report.line_of(finding))


@contextmanager
def _ended_by_ctrl_c() -> Iterator[None]:
    """Has SIGTERM end the block as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(line: str) -> None:
    """Shows a line of progress: on stderr, since stdout has the report."""
    print(line, file=sys.stderr, flush=True)


def _site(args: Namespace, *, on_slurm: bool) -> Site:
    """The profile, and the runs of the specs.

    Raises:
        SpecError: All mistakes of specs and overrides.
    """
    root = find_root()
    specs, overrides = split_overrides(args.specs)
    overrides = [*option_overrides(args), *overrides]
    # without a spec, any row has the profile
    paths = [find_spec(word, root) for word in specs] or sorted(root.glob("experiments/*.yaml"))[:1]
    request = spec.load(paths, overrides)
    runs = request.plan(args.seeds, root / "results") if specs else []
    results = request.results(root / "results")
    return Site(request.experiments[0].cluster, results, runs, on_slurm)


def _tracking(results: Path) -> Finding:
    """Whether MLflow's store could be written to now; nothing is.

    Args:
        results: The project's results folder.
    """
    uri = store_uri(results)
    try:
        with refusals(results):
            require_usable(uri)
    except TrackingError as err:
        advice = "mend it for `sync` and `ui`; set MLFLOW_TRACKING_URI for another store"
        return found_on_login("MLflow", Level.warning, str(err), advice)
    return found_on_login("MLflow", Level.ok, without_credentials(uri))


def _examine_nodes(
    examination: Examination, chosen: Backend, found: Sequence[Finding]
) -> Iterator[Finding]:
    if chosen.submits:
        return examination.by_job(found)
    gpus = devices.visible_gpus()
    return examination.by_processes(_placement(examination.site, chosen, gpus), gpus)


def _placement(site: Site, chosen: Backend, gpus: list[str]) -> Placement:
    """Processes and devices on this machine: of the run with the most, else those of the profile.

    A run whose global batch does not divide is a finding, and has none.
    """
    found = []
    for run in site.runs:
        with suppress(SpecError):
            found.append(chosen.placement(run.experiment))
    if found:
        return max(found, key=lambda placement: placement.processes)
    asked = site.cluster.nodes * site.cluster.gpus_per_node
    processes = min(asked, len(gpus)) or (1 if asked else site.cluster.tasks_per_node)
    return Placement(processes, bool(asked and gpus), device_batch=1, accumulation=1)


def _costs(site: Site, chosen: Backend, found: list[Finding]) -> Iterator[Finding]:
    """Records the speeds that were measured; the cost of the runs by what is known now."""
    path = speeds.speeds_path(site.results, site.cluster.name)
    speeds.record_speeds(path, site.runs, speeds.values_of_speeds(found))
    yield from costs(site, chosen)


def _typed(args: Namespace) -> list[str]:
    return [*args.specs, *option_overrides(args)]
