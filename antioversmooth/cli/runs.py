"""Handlers of the commands about launched runs: status, why, logs, cancel, retry."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial

from antioversmooth.cli.exit_codes import FAILED, INCOMPLETE, INTERRUPTED, OK, USER_ERROR
from antioversmooth.cli.requests import (
    load_request,
    load_run,
    load_runs,
    print_json,
    project_tables,
    run_fields,
)
from antioversmooth.datasets.current import CurrentData
from antioversmooth.errors import UserError
from antioversmooth.orchestration import control
from antioversmooth.orchestration.backend import Outcome
from antioversmooth.orchestration.monitor import logs, view
from antioversmooth.orchestration.monitor.explain import explain
from antioversmooth.orchestration.monitor.state import query_statuses
from antioversmooth.orchestration.monitor.status import Status, describe_statuses, statuses
from antioversmooth.orchestration.slurm.submission import Refused
from antioversmooth.project import find_root
from antioversmooth.reporting.rendering import terminal
from antioversmooth.runs import Run, RunRecord
from antioversmooth.runs.discovery import Discovery


def status_command(args: Namespace) -> int:
    """Shows the state of runs."""
    look = _look_at_named(args.specs, args.seeds) if args.specs else _look_at_all()
    if args.json:
        print_json(look())
    elif args.watch:
        terminal.watch_statuses(look, sys.stdout)
    else:
        terminal.show_statuses(look(), sys.stdout)
    return OK


def _look_at_named(words: Sequence[str], seeds: Sequence[int]) -> Callable[[], list[Status]]:
    """Reads the statuses of the runs of specs, each with the values of its newest launch."""
    request, results = load_request(words)
    runs, tables = request.plan(seeds, results), request.tables or project_tables()
    data = CurrentData()
    return lambda: statuses([run.as_launched() for run in runs], tables, data=data)


def _look_at_all() -> Callable[[], list[Status]]:
    """Reads the statuses of all runs, which are loaded from their directories."""
    return partial(statuses, _all_runs(), project_tables(), data=CurrentData())


def _all_runs() -> list[Run]:
    """All runs in the project's results folder."""
    results = find_root() / "results"
    discovery = Discovery(results)
    runs = discovery.runs()
    for directory, problem in discovery.unreadable.items():
        print(f"left out: {directory}: {problem}", file=sys.stderr)
    if not runs:
        elsewhere = "name a SPEC for rows whose results lie elsewhere"
        raise UserError(f"nothing has run yet in {results}; {elsewhere}")
    return runs


def why_command(args: Namespace) -> int:
    """Explains what happened to a run and what will happen next."""
    run = load_run(args.row, args.seed, args.row_name).as_launched()
    record = RunRecord.read(run)
    known = query_statuses([record])
    why = explain(record, known[run.id])
    if args.json:
        (status,) = describe_statuses([record], known, project_tables())
        print_json({**status, "why": why})
    else:
        print(why)
    return OK


def logs_command(args: Namespace) -> int:
    """Prints the logs of a run's newest attempt."""
    show = logs.follow if args.follow else logs.show
    show(load_run(args.row, args.seed, args.row_name), sys.stdout, rank=args.rank)
    return OK


def cancel_command(args: Namespace) -> int:
    """Cancels runs, one after another, also after one whose job is another user's."""
    cancelled, code = [], OK
    for run in _named_runs(args.specs, args.seeds):
        try:
            message, out = control.cancel(run), sys.stderr if args.json else sys.stdout
        except Refused as err:
            message, out, code = str(err), sys.stderr, USER_ERROR
        cancelled.append({**run_fields(run), "message": message})
        print(message, flush=True, file=out)
    if args.json:
        print_json(cancelled)
    return code


def _named_runs(words: Sequence[str], seeds: Sequence[int]) -> list[Run]:
    """The runs of run directories, or of the named rows without the runs that they start from."""
    runs = load_runs(words)
    if runs is not None:
        return runs
    request, results = load_request(words)
    names = {experiment.row_name for experiment in request.experiments}
    return [run for run in request.plan(seeds, results) if run.experiment.row_name in names]


def retry_command(args: Namespace) -> int:
    """Starts the runs again that were given up."""
    request, results = load_request(args.specs)
    runs = request.plan(args.seeds, results)
    failed = control.given_up(runs)
    out = sys.stderr if args.json else sys.stdout
    problems = [problem for run in runs if (problem := run.invalid_result_reason())]
    for problem in problems:
        print(problem, file=sys.stderr)
    if not failed:
        print("None of these runs was given up.", file=out)
        if args.json:
            print_json([])
        return USER_ERROR if problems else OK
    with view.open_view(failed, out) as shown:
        launched = control.retry(runs, failed, request.results(results), shown)
    outcomes = launched.outcomes
    print(f"Given up, and started again: {', '.join(run.name for run in failed)}", file=out)
    if args.json:
        started = [run for run in runs if run.id in outcomes]
        print_json([{**run_fields(run), "outcome": outcomes[run.id].value} for run in started])
    if launched.interrupted:
        return INTERRUPTED
    if {Outcome.failed, Outcome.blocked} & set(outcomes.values()):
        return FAILED
    return INCOMPLETE if Outcome.waiting in outcomes.values() else OK
