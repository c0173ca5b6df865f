"""Handler of `launch`: plan, check, start, report."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from antioversmooth import spec
from antioversmooth.cli.exit_codes import FAILED, INCOMPLETE, INTERRUPTED, OK, USER_ERROR
from antioversmooth.cli.requests import print_json, run_fields
from antioversmooth.config import Table
from antioversmooth.errors import LaunchError, ResultError, and_more
from antioversmooth.orchestration import backend, dryrun, preflight, snapshot
from antioversmooth.orchestration.backend import Choice, Launched, Outcome
from antioversmooth.orchestration.evaluation import plan_evaluations
from antioversmooth.orchestration.local.inline import InlineBackend
from antioversmooth.orchestration.local.pool import LocalBackend
from antioversmooth.orchestration.monitor import view
from antioversmooth.orchestration.notify import events
from antioversmooth.orchestration.slurm.backend import SlurmBackend
from antioversmooth.orchestration.slurm.mirroring import mirroring
from antioversmooth.project import find_root, find_spec
from antioversmooth.runs import Run
from antioversmooth.runs.record import RunRecord, read_records
from antioversmooth.spec import Request
from antioversmooth.spec.save import TableFile, table_file
from antioversmooth.text import counted

if TYPE_CHECKING:
    from antioversmooth.reporting.table.document import Document


def launch_command(args: Namespace, project: Path | None = None) -> int:
    """Starts the runs that are not done, reports all of them, and publishes their tables.

    Args:
        project: Default: the project around the working directory.
    """
    project = project or find_root()
    # with --json, stdout is for programs
    out = sys.stderr if args.json else sys.stdout
    results = project / "results"
    request, choice, planned = plan(args, project, out)
    saved = table_file(request, args.save_table) if args.save_table else None
    if args.dry_run:
        if saved:
            print(f"The table would be saved as {saved.path}", file=out)
        return _show_plan(planned, choice, request.results(results), args, out)
    records = read_records(planned)
    untrusted = _report_untrusted_results(records, out)
    trusted = [record for record in records if record.run.id not in untrusted]
    unfinished = _unfinished(trusted, len(planned), out)
    preflight.check(unfinished, choice.backend, request.results(results))
    preflight.make_results_folder(request.results(results))
    runs, pending = ([record.run for record in some] for some in (trusted, unfinished))
    if not _confirm(choice, pending, args):
        return INTERRUPTED
    if saved:
        request, choice = _save(saved, choice, args, project, out)
    launched = Launched({})
    if pending:
        with view.open_view(runs, out) as shown:
            code = snapshot.take(request.results(results))
            launched = choice.backend.launch(pending, code, shown)
    outcomes = untrusted | {run.id: launched.outcomes.get(run.id, Outcome.done) for run in runs}
    _report_outcomes(planned, outcomes, args.json, out)
    if args.eval:
        _show_evaluations(runs, out)
    if launched.interrupted:
        return INTERRUPTED
    if Outcome.waiting in outcomes.values():
        return INCOMPLETE
    if Outcome.submitted in outcomes.values():
        return OK
    # only here: a dry run waits for nothing that only tables and figures need
    from antioversmooth.reporting.publish import publish

    tables = [] if args.eval else request.tables
    published = publish(planned, tables, request, args.seeds, results, out)
    if pending:
        _notify_of_tables(published, tables, planned, outcomes, request.results(results), out)
    return _exit_code(set(outcomes.values()), published)


def _exit_code(outcomes: Set[Outcome], published: Sequence[Document]) -> int:
    """The exit code of a launch that is over, by how its runs ended and what its tables lack."""
    if {Outcome.failed, Outcome.blocked} & outcomes:
        return FAILED
    incomplete = {Outcome.stopped, Outcome.missing, Outcome.running} & outcomes
    complete = all(table["complete"] for table in published) and not incomplete
    return OK if complete else INCOMPLETE


def _notify_of_tables(
    published: Sequence[Document],
    tables: Sequence[Table],
    runs: Sequence[Run],
    outcomes: Mapping[str, Outcome],
    results: Path,
    out: TextIO,
) -> None:
    for made, table in zip(published, tables, strict=True):
        rows = {row.row_name for row in table.rows}
        events.table_ended(
            table.name,
            [run for run in runs if run.experiment.row_name in rows],
            outcomes,
            results,
            complete=made["complete"],
            metrics={row["label"]: row["top1"]["mean"] for row in made["rows"] if row.get("top1")},
            say=partial(print, file=out),
        )


def plan(args: Namespace, project: Path, out: TextIO) -> tuple[Request, Choice, list[Run]]:
    """The request, its back end and its runs.

    Raises:
        SpecError: All mistakes of specs and overrides.
        LaunchError: There is no such back end here, or nothing to evaluate yet.
    """
    request = spec.load([find_spec(word, project) for word in args.specs], args.overrides)
    for note in request.notes:
        print(note, file=out)
    results = project / "results"
    plan_runs = partial(plan_evaluations, request) if args.eval else request.plan
    runs = plan_runs(args.seeds, results)
    slurm = _slurm_backend(args, request, project)
    choice = backend.choose(args.backend, slurm=slurm, local=LocalBackend(), inline=InlineBackend())
    print(f"Back end: {choice.backend.name} ({choice.reason})", file=out)
    if args.detach and not choice.backend.submits:
        advice = "only SLURM goes on without this terminal; use nohup, tmux or screen here"
        raise LaunchError(f"--detach: {advice}")
    return request, choice, runs


def _slurm_backend(args: Namespace, request: Request, project: Path) -> SlurmBackend:
    """The SLURM back end with its options; while it follows, the runs are mirrored into MLflow."""
    words = [*args.specs, *args.overrides, "--seeds", ",".join(map(str, args.seeds))]
    return SlurmBackend(
        follow=args.follow,
        prune=args.prune,
        tables=[] if args.eval else [table.name for table in request.tables],
        while_following=partial(mirroring, words, project),
    )


def _save(
    table: TableFile, choice: Choice, args: Namespace, project: Path, out: TextIO
) -> tuple[Request, Choice]:
    """Writes the table of a sweep; returns the request for it, and a back end that knows it.

    Raises:
        SpecError: Another table of that name is there.
    """
    table.write()
    print(f"Saved: {table.path}", file=out)
    args.specs, args.overrides = [str(table.path)], table.overrides
    request = spec.load([table.path], table.overrides)
    if choice.backend.submits:
        choice = replace(choice, backend=_slurm_backend(args, request, project))
    return request, choice


def _show_plan(
    runs: Sequence[Run], choice: Choice, results: Path, args: Namespace, out: TextIO
) -> int:
    """Shows what a launch would do; returns USER_ERROR if it would be refused."""
    planned = dryrun.describe(runs, choice, snapshot.describe(results), results)
    if args.json:
        print_json(planned)
    else:
        dryrun.show(planned, out, all_scripts=args.scripts)
    return USER_ERROR if planned["refused"] else OK


def _report_untrusted_results(records: Sequence[RunRecord], out: TextIO) -> dict[str, Outcome]:
    """Reports invalid results; returns the outcomes of their runs and of the runs that need them.

    Raises:
        ResultError: No other run is left.
    """
    outcomes = backend.untrusted_outcomes(records)
    problems = [problem for record in records if (problem := record.invalid_result_reason)]
    if problems and len(outcomes) == len(records):
        raise ResultError("\n".join(problems))
    for problem in problems:
        print(problem, file=out)
    return outcomes


def _unfinished(records: Sequence[RunRecord], num_planned: int, out: TextIO) -> list[RunRecord]:
    """The runs that are not done; reports what the user may not expect of either kind."""
    unfinished = [record for record in records if record.result is None]
    num_done = len(records) - len(unfinished)
    if num_done:
        print(f"{num_done} of {num_planned} runs are done already and skipped", file=out)
    for line in [*preflight.changed_data(records), *preflight.fresh_starts(unfinished)]:
        print(line, file=out)
    return unfinished


MANY_RUNS = 1000
"""Runs beyond which a launch is confirmed on every back end."""


def _confirm(choice: Choice, runs: Sequence[Run], args: Namespace) -> bool:
    """Asks a user at a terminal before jobs are submitted, or many runs start.

    Raises:
        LaunchError: Many runs have nobody to ask, and no `--yes`.
    """
    are_many = len(runs) > MANY_RUNS
    if args.yes or not runs or not (choice.backend.submits or are_many):
        return True
    if not sys.stdin.isatty():
        if are_many:
            raise LaunchError(f"this starts {len(runs):,} runs; add --yes to start them")
        return True
    names = and_more([run.name for run in runs], 12)
    verb, noun = ("Submit", "job") if choice.backend.submits else ("Start", "run")
    return input(f"{verb} {counted(len(runs), noun)} ({names})? [y/N] ").lower() in ("y", "yes")


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
    if Outcome.waiting in outcomes.values():
        print("The same command submits the rest.", file=out)
    if Outcome.submitted in outcomes.values():
        print(
            "Progress: python -m antioversmooth status, or the same command with --follow", file=out
        )


def _as_json(run: Run, outcome: Outcome) -> dict[str, object]:
    result = {} if run.invalid_result_reason() else run.result() or {}
    return {**run_fields(run), "outcome": outcome.value, "metrics": result.get("metrics")}


def _show_evaluations(runs: Sequence[Run], out: TextIO) -> None:
    """Prints the numbers of evaluations; `result.json` also has top-1 of each class."""
    from antioversmooth.reporting import evaluations

    for record in filter(None, map(evaluations.of_run, runs)):
        print(f"\n{evaluations.text(record)}", file=out)
