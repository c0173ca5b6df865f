"""The commands about runs that were launched: status, why, logs, cancel, retry."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from antioversmooth.cli.requests import (
    Command,
    json_argument,
    request_of,
    row_arguments,
    run_of,
    spec_arguments,
)
from antioversmooth.errors import UserError
from antioversmooth.project import find_root

if TYPE_CHECKING:
    from antioversmooth.config import Table
    from antioversmooth.runs import Run

# -- status ----------------------------------------------------------------------------------------


def _status_arguments(parser: argparse.ArgumentParser) -> None:
    spec_arguments(parser, required=False)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="a list, one value a run")
    how.add_argument(
        "--watch", action="store_true", help="look again every 15 s, until nothing waits or runs"
    )


def _status(given: argparse.Namespace) -> int:
    from antioversmooth.orchestration.monitor.status import statuses
    from antioversmooth.reporting.rendering import terminal

    runs, tables = _asked(given) if given.specs else _everything()
    if given.json:
        print(json.dumps(statuses(runs, tables), indent=2))
    elif given.watch:
        terminal.watch_statuses(lambda: statuses(runs, tables), sys.stdout)
    else:
        terminal.show_statuses(statuses(runs, tables), sys.stdout)
    return 0


def _asked(given: argparse.Namespace) -> tuple[list[Run], list[Table]]:
    request, results = request_of(given.specs)
    return request.plan(given.seeds, results), request.tables or _tables()


def _everything() -> tuple[list[Run], list[Table]]:
    """All runs in the project's results folder, and all tables."""
    from antioversmooth.reporting.discover import Discovery

    root = find_root()
    discovery = Discovery(root / "results")
    runs = discovery.runs()
    for directory, problem in discovery.unreadable.items():
        print(f"left out: {directory}: {problem}", file=sys.stderr)
    if not runs:
        raise UserError(
            f"nothing has run yet in {root / 'results'}; name a SPEC for rows whose results lie"
            " elsewhere"
        )
    return runs, _tables()


def _tables() -> list[Table]:
    """All tables of the project."""
    from antioversmooth import spec

    return [
        spec.load_table(path)
        for path in sorted((find_root() / "experiments" / "tables").glob("*.yaml"))
    ]


# -- why, logs -------------------------------------------------------------------------------------


def _why_arguments(parser: argparse.ArgumentParser) -> None:
    row_arguments(parser)
    json_argument(parser, "what status says of the run, and why")


def _why(given: argparse.Namespace) -> int:
    from antioversmooth.orchestration.monitor.explain import explain
    from antioversmooth.orchestration.monitor.status import statuses

    run = run_of(given.row, given.seed)
    why = explain(run)
    if given.json:
        (status,) = statuses([run], _tables())
        print(json.dumps({**status, "why": why}, indent=2))
    else:
        print(why)
    return 0


def _logs_arguments(parser: argparse.ArgumentParser) -> None:
    row_arguments(parser)
    parser.add_argument(
        "-f", "--follow", action="store_true", help="go on until the run is done, or Ctrl-C"
    )
    parser.add_argument(
        "--rank", type=int, default=0, metavar="N", help="of which process; default: 0"
    )


def _logs(given: argparse.Namespace) -> int:
    from antioversmooth.orchestration.monitor import logs

    show = logs.follow if given.follow else logs.show
    show(run_of(given.row, given.seed), sys.stdout, rank=given.rank)
    return 0


# -- cancel, retry ---------------------------------------------------------------------------------


def _cancel_arguments(parser: argparse.ArgumentParser) -> None:
    spec_arguments(parser)
    json_argument(parser, "a list, one value a run")


def _cancel(given: argparse.Namespace) -> int:
    from antioversmooth.orchestration.control import cancel

    told = []
    for run in _named(given):
        told.append({**_shown(run), "told": cancel(run)})
        print(told[-1]["told"], flush=True, file=sys.stderr if given.json else sys.stdout)
    if given.json:
        print(json.dumps(told, indent=2))
    return 0


def _shown(run: Run) -> dict[str, str | int]:
    """Which run a JSON value is of."""
    return {"experiment": run.experiment.name, "seed": run.seed, "id": run.id, "dir": str(run.dir)}


def _named(given: argparse.Namespace) -> list[Run]:
    """The runs of the rows that were named, without those that they start from; or of run
    directories."""
    from antioversmooth.runs import Run

    directories = [Path(word) for word in given.specs if (Path(word) / "spec.yaml").is_file()]
    if len(directories) == len(given.specs):
        return [Run.load(directory) for directory in directories]
    request, results = request_of(given.specs)
    return [
        run for run in request.plan(given.seeds, results) if run.experiment in request.experiments
    ]


def _retry_arguments(parser: argparse.ArgumentParser) -> None:
    spec_arguments(parser)
    parser.add_argument("--failed", action="store_true", help="what was given up, as without it")
    json_argument(parser, "a list of what became of each run; progress goes to stderr")


def _retry(given: argparse.Namespace) -> int:
    from antioversmooth.orchestration import control
    from antioversmooth.orchestration.backend import Outcome
    from antioversmooth.orchestration.monitor import view

    request, results = request_of(given.specs)
    runs = request.plan(given.seeds, results)
    failed, out = control.given_up(runs), sys.stderr if given.json else sys.stdout
    for problem in filter(None, (run.invalid_result_reason() for run in runs)):
        print(problem, file=sys.stderr)
    if not failed:
        print("None of these runs was given up.", file=out)
        if given.json:
            print("[]")
        return 0
    print(f"Given up, and started again: {', '.join(run.name for run in failed)}", file=out)
    with view.open_view(failed, out) as shown:
        launched = control.retry(runs, failed, request.results(results), shown.say, shown.update)
    if given.json:
        became = launched.outcomes
        told = [
            {**_shown(run), "outcome": became[run.id].value} for run in runs if run.id in became
        ]
        print(json.dumps(told, indent=2))
    if launched.interrupted:
        return 130
    return 1 if {Outcome.failed, Outcome.blocked} & set(launched.outcomes.values()) else 0


OPERATIONS = {
    "status": Command(
        "where each run stands, how far it is and what it costs", _status_arguments, _status
    ),
    "why": Command("what happened to a run last, and what will happen next", _why_arguments, _why),
    "logs": Command("print the logs of a run's newest attempt", _logs_arguments, _logs),
    "cancel": Command(
        "end runs; they stay resumable, and go on when they are launched",
        _cancel_arguments,
        _cancel,
    ),
    "retry": Command(
        "start again what was given up, once its cause is mended", _retry_arguments, _retry
    ),
}
