"""Handler of launch.py: plan, check, start, report."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TextIO

from antioversmooth import spec
from antioversmooth.cli.exit_codes import FAILED, INCOMPLETE, INTERRUPTED, OK, USER_ERROR
from antioversmooth.cli.requests import print_json, run_fields
from antioversmooth.errors import LaunchError, ResultError
from antioversmooth.orchestration import backend, dryrun, evaluation, preflight, snapshot
from antioversmooth.orchestration.backend import Backend, Choice, Launched, Outcome
from antioversmooth.orchestration.local import inline, pool
from antioversmooth.orchestration.monitor import view
from antioversmooth.orchestration.monitor.view import View
from antioversmooth.orchestration.slurm import backend as slurm
from antioversmooth.orchestration.slurm.mirroring import mirroring
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.project import find_spec
from antioversmooth.reporting import evaluations
from antioversmooth.reporting.publish import publish
from antioversmooth.runs import Run
from antioversmooth.spec import Request


def launch_command(args: Namespace, project: Path) -> int:
    """Starts the runs that are not done, reports all of them, and publishes their tables."""
    # with --json, stdout is for programs
    out = sys.stderr if args.json else sys.stdout
    results = project / "results"
    request, choice, planned = plan(args, project, out)
    if args.dry_run:
        return _show_plan(planned, choice, request.results(results), args.json, out)
    untrusted = _report_untrusted_results(planned, out)
    runs = [run for run in planned if run.id not in untrusted]
    pending = _pending_runs(runs, len(planned), out)
    preflight.check(pending, choice.backend, request.results(results))
    if not _confirm_submission(choice, pending, args):
        return INTERRUPTED
    launched = Launched({})
    if pending:
        with view.open_view(runs, out) as shown:
            code = snapshot.take(request.results(results))
            launched = launch_on(choice, pending, code, shown, request, args, project)
    outcomes = untrusted | {run.id: launched.outcomes.get(run.id, Outcome.done) for run in runs}
    _report_outcomes(planned, outcomes, args.json, out)
    if args.eval:
        _show_evaluations(runs, out)
    if launched.interrupted:
        return INTERRUPTED
    if Outcome.submitted in outcomes.values():
        return OK
    tables = [] if args.eval else request.tables
    complete = publish(planned, tables, request, args.seeds, results, out)
    if {Outcome.failed, Outcome.blocked} & set(outcomes.values()):
        return FAILED
    incomplete = {Outcome.stopped, Outcome.missing} & set(outcomes.values())
    return OK if complete and not incomplete else INCOMPLETE


def plan(args: Namespace, project: Path, out: TextIO) -> tuple[Request, Choice, list[Run]]:
    """The request, its back end and its runs.

    Raises:
        SpecError: All mistakes of specs and overrides.
        LaunchError: There is no such back end here, or nothing to evaluate yet.
    """
    request = spec.load([find_spec(word, project) for word in args.specs], args.overrides)
    results = project / "results"
    runs = (
        evaluation.plan(request, args.seeds, results)
        if args.eval
        else request.plan(args.seeds, results)
    )
    choice = backend.choose(args.backend)
    print(f"Back end: {choice.backend.value} ({choice.reason})", file=out)
    if args.detach and choice.backend is not Backend.slurm:
        raise LaunchError(
            "--detach: only SLURM goes on without this terminal; use nohup, tmux or screen here"
        )
    return request, choice, runs


def _show_plan(
    runs: Sequence[Run], choice: Choice, results: Path, as_json: bool, out: TextIO
) -> int:
    """Shows what a launch would do; returns USER_ERROR if it would be refused."""
    planned = dryrun.describe(runs, choice, snapshot.describe(results), results)
    print_json(planned) if as_json else dryrun.show(planned, out)
    return USER_ERROR if planned["refused"] else OK


def _report_untrusted_results(runs: Sequence[Run], out: TextIO) -> dict[str, Outcome]:
    """Reports invalid results; returns the outcomes of their runs and of the runs that need them.

    Raises:
        ResultError: No other run is left.
    """
    outcomes = backend.untrusted_outcomes(runs)
    problems = [problem for run in runs if (problem := run.invalid_result_reason())]
    if problems and len(outcomes) == len(runs):
        raise ResultError("\n".join(problems))
    for problem in problems:
        print(problem, file=out)
    return outcomes


def _pending_runs(runs: Sequence[Run], num_planned: int, out: TextIO) -> list[Run]:
    """The runs that are not done; reports what the user may not expect of either kind."""
    pending = [run for run in runs if run.result() is None]
    num_done = len(runs) - len(pending)
    if num_done:
        print(f"{num_done} of {num_planned} runs are done already and skipped", file=out)
    for line in [*preflight.moved_data(runs), *preflight.fresh_starts(pending)]:
        print(line, file=out)
    return pending


def _confirm_submission(choice: Choice, runs: Sequence[Run], args: Namespace) -> bool:
    """Asks a user at a terminal before jobs are submitted, unless with `--yes`."""
    if choice.backend is not Backend.slurm or args.yes or not runs or not sys.stdin.isatty():
        return True
    names = ", ".join(run.name for run in runs)
    return input(f"Submit {len(runs)} jobs ({names})? [y/N] ").lower() in ("y", "yes")


def launch_on(
    choice: Choice,
    runs: Sequence[Run],
    code: Snapshot,
    shown: View,
    request: Request,
    args: Namespace,
    project: Path,
) -> Launched:
    """Launches the runs on the chosen back end."""
    if choice.backend is Backend.slurm:
        tables = [] if args.eval else [table.name for table in request.tables]
        again = [*args.specs, *args.overrides, "--seeds", ",".join(map(str, args.seeds))]
        with mirroring(again, project) if args.follow else nullcontext():
            return slurm.launch(
                runs,
                code,
                shown.say,
                shown.update,
                follow=args.follow,
                prune=args.prune,
                tables=tables,
            )
    if choice.backend is Backend.inline:
        return inline.launch(runs, code, shown.say, shown.update)
    return pool.launch(runs, code, shown.say, shown.update)


def _report_outcomes(
    runs: Sequence[Run], outcomes: Mapping[str, Outcome], as_json: bool, out: TextIO
) -> None:
    if as_json:
        print_json([_as_json(run, outcomes[run.id]) for run in runs])
    for outcome in dict.fromkeys(outcomes.values()):
        names = [run.name for run in runs if outcomes[run.id] is outcome]
        print(f"{len(names)} of {len(runs)} {outcome.value}: {', '.join(names)}", file=out)
    if {Outcome.stopped, Outcome.missing} & set(outcomes.values()):
        print("The same command continues.", file=out)
    if Outcome.submitted in outcomes.values():
        print(
            "Their progress: python -m antioversmooth status; to stay and watch: the same command"
            " with --follow",
            file=out,
        )


def _as_json(run: Run, outcome: Outcome) -> dict[str, object]:
    result = {} if run.invalid_result_reason() else run.result() or {}
    return {**run_fields(run), "outcome": outcome.value, "metrics": result.get("metrics")}


def _show_evaluations(runs: Sequence[Run], out: TextIO) -> None:
    """Prints the numbers of evaluations; `result.json` also has top-1 of each class."""
    for record in filter(None, map(evaluations.of_run, runs)):
        print(f"\n{evaluations.text(record)}", file=out)
