"""Handlers of the commands about MLflow: sync, ui."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict

from antioversmooth.cli.exit_codes import OK, USER_ERROR
from antioversmooth.cli.requests import load_request, print_json, project_tables
from antioversmooth.project import find_root
from antioversmooth.reporting.table.observe import observe_all
from antioversmooth.reporting.tracking import mirror, ui
from antioversmooth.reporting.tracking.logged_models import LoggedModels
from antioversmooth.reporting.tracking.mirror import Mirrored
from antioversmooth.text import counted


def sync_command(args: Namespace) -> int:
    """Mirrors runs, and their final weights, into MLflow."""
    request, results = load_request(args.specs)
    observed = observe_all(request.plan(args.seeds, results))
    mirrored = mirror.sync(observed, request.tables, results)
    if not args.json:
        _report_mirrored(mirrored)
    models = LoggedModels(results)
    logged = [] if args.no_models else models.sync(observed, mirrored)
    for problem in models.problems.values():
        print(f"not logged as a model: {problem}", file=sys.stderr)
    if args.json:
        print_json([{**asdict(experiment), "models": len(logged)} for experiment in mirrored])
    else:
        print(f"{counted(len(logged), 'model')} logged" if mirrored else "Nothing has run yet.")
    for experiment in mirrored:
        if experiment.problem:
            print(f"{experiment.name}: not mirrored: {experiment.problem}", file=sys.stderr)
    return USER_ERROR if any(experiment.problem for experiment in mirrored) else OK


def _report_mirrored(mirrored: Sequence[Mirrored]) -> None:
    for experiment in mirrored:
        if not experiment.problem:
            runs, note = counted(experiment.num_runs, "run"), experiment.note
            changed = f"{experiment.num_changed} of {runs} brought up to date"
            done = changed if experiment.num_changed else f"{runs}, up to date already"
            print(f"{experiment.name}: {done}{f' ({note})' if note else ''}")


def ui_command(args: Namespace) -> int:
    """Serves MLflow on all runs of the project until it is interrupted."""
    ui.serve(
        find_root() / "results",
        project_tables(),
        ui.Address(args.host, args.port),
        every_s=args.every,
        models=not args.no_models,
        out=sys.stdout,
    )
    return OK
