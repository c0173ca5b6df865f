"""Trains rows and tables of experiments, on SLURM or on this machine.

    python launch.py experiments/cait_s24_featscale.yaml --nodes 2
    python launch.py experiments/tables/table2.yaml profile=mini --seeds 0,1,2

Done runs are not run again and stopped ones go on where they were: the same command is how to
continue. Exit codes: 0 all done (or submitted), 1 a run failed, 2 a mistake to mend, 3 incomplete,
130 interrupted, 141 where nobody reads on (`| head`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from antioversmooth.cli.arguments import Parser, divide, seeds

if TYPE_CHECKING:
    from antioversmooth.orchestration.backend import Choice, Launched, Outcome
    from antioversmooth.orchestration.monitor.view import View
    from antioversmooth.orchestration.snapshot import Snapshot
    from antioversmooth.runs import Run
    from antioversmooth.spec import Request

PROJECT = Path(__file__).resolve().parent
RESULTS = PROJECT / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what the command line asks for; returns the exit code."""
    args = parse(arguments)
    # from here on: a help text needs argparse alone
    from antioversmooth.cli.entry import guarded

    return guarded(
        "launch.py", lambda: plan_and_launch(args, sys.stderr if args.json else sys.stdout)
    )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line: `specs` are paths, `overrides` everything that changes a spec."""
    asked = parser()
    args = asked.read(arguments)
    args.specs, overrides = divide(args.specs)
    args.overrides = [*_flag_overrides(args), *overrides]
    if not args.specs:
        asked.error(
            "which spec? for example experiments/deit_s12.yaml or experiments/tables/table2.yaml"
        )
    return args


def parser() -> Parser:
    """What the command line may say."""
    parser = Parser("launch.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "specs",
        nargs="+",
        metavar="SPEC|KEY=VALUE",
        help="rows, tables, and overrides of their specs",
    )
    cluster = parser.add_argument_group("where")
    cluster.add_argument(
        "--backend", choices=("auto", "slurm", "local", "inline"), default="auto", help=BACKEND_HELP
    )
    cluster.add_argument(
        "--cluster", metavar="NAME", help="cluster profile: experiments/cluster/NAME.yaml"
    )
    cluster.add_argument("--nodes", type=int, metavar="N", help="nodes per run (cluster.nodes)")
    cluster.add_argument(
        "--gpus-per-node", type=int, metavar="N", help="GPUs per node (cluster.gpus_per_node)"
    )
    what = parser.add_argument_group("what")
    what.add_argument(
        "--seeds", type=seeds, default=[0], metavar="0,1,2", help="seeds of every row (default: 0)"
    )
    what.add_argument(
        "--max-steps", type=int, metavar="N", help="end each run, resumable, after step N"
    )
    what.add_argument(
        "--eval", action="store_true", help="evaluate trained runs again instead of training"
    )
    what.add_argument(
        "--dry-run", action="store_true", help="show what would be done, and do nothing"
    )
    how = parser.add_argument_group("how")
    stay = how.add_mutually_exclusive_group()
    stay.add_argument(
        "--follow", action="store_true", help="SLURM: stay and show progress; at the end the table"
    )
    stay.add_argument(
        "--detach", action="store_true", help="SLURM: submit and leave (what it does by default)"
    )
    how.add_argument("--yes", action="store_true", help="SLURM: do not ask before submitting")
    how.add_argument(
        "--prune",
        action="store_true",
        help="SLURM: cancel jobs of rows that were edited since, or left",
    )
    how.add_argument(
        "--json",
        action="store_true",
        help="the plan or the outcome as JSON; progress goes to stderr",
    )
    return parser


BACKEND_HELP = (
    "auto: SLURM where sbatch answers, else processes of\nthis machine; inline: in this process, to"
    " debug"
)


def _flag_overrides(args: argparse.Namespace) -> list[str]:
    """The flags that only are a shorter way to write an override."""
    flags = {
        "cluster": args.cluster,
        "cluster.nodes": args.nodes,
        "cluster.gpus_per_node": args.gpus_per_node,
        "runtime.max_steps": args.max_steps,
    }
    return [f"{key}={value}" for key, value in flags.items() if value is not None]


def plan_and_launch(args: argparse.Namespace, out: TextIO) -> int:
    """Plans, checks, starts and reports; returns the exit code.

    Args:
        out: Where people read; with `--json` what programs read goes to stdout.
    """
    from antioversmooth.orchestration import preflight
    from antioversmooth.orchestration.backend import Launched, Outcome
    from antioversmooth.reporting.publish import publish

    request, choice, asked = plan(args, out)
    if args.dry_run:
        return show_plan(asked, choice, request, args.json, out)
    aside = tell_set_aside(asked, out)
    runs = [run for run in asked if run.id not in aside]
    pending = what_is_left(runs, len(asked), out)
    preflight.check(pending, choice.backend, request.results(RESULTS))
    if not agreed(choice, pending, args):
        return 130
    launched = start(choice, runs, pending, request, args, out) if pending else Launched({})
    became = aside | {run.id: launched.outcomes.get(run.id, Outcome.done) for run in runs}
    conclude(asked, became, args.json, out)
    if args.eval:
        show_evaluations(runs, out)
    if launched.interrupted:
        return 130
    if Outcome.submitted in became.values():
        return 0
    complete = publish(
        asked, [] if args.eval else request.tables, request, args.seeds, RESULTS, out
    )
    if {Outcome.failed, Outcome.blocked} & set(became.values()):
        return 1
    return 0 if complete and Outcome.stopped not in became.values() else 3


def plan(args: argparse.Namespace, out: TextIO) -> tuple[Request, Choice, list[Run]]:
    """What the specs ask for, where it runs, and its runs.

    Raises:
        SpecError: All mistakes of specs and overrides.
        LaunchError: There is no such back end here, or nothing to evaluate yet.
    """
    from antioversmooth import spec
    from antioversmooth.errors import LaunchError
    from antioversmooth.orchestration import backend, evaluation
    from antioversmooth.project import find_spec

    request = spec.load([find_spec(word, PROJECT) for word in args.specs], args.overrides)
    runs = (
        evaluation.plan(request, args.seeds, RESULTS)
        if args.eval
        else request.plan(args.seeds, RESULTS)
    )
    choice = backend.choose(args.backend)
    print(f"Back end: {choice.backend.value} ({choice.reason})", file=out)
    if args.detach and choice.backend is not backend.Backend.slurm:
        raise LaunchError(
            "--detach: only SLURM goes on without this terminal; use nohup, tmux or screen here"
        )
    return request, choice, runs


def show_plan(
    runs: Sequence[Run], choice: Choice, request: Request, as_json: bool, out: TextIO
) -> int:
    """Shows what a launch would do; 2 where it would be refused."""
    from antioversmooth.orchestration import dryrun, snapshot

    results = request.results(RESULTS)
    planned = dryrun.describe(runs, choice, snapshot.describe(results), results)
    print(json.dumps(planned, indent=2)) if as_json else dryrun.show(planned, out)
    return 2 if planned["refused"] else 0


def what_is_left(runs: Sequence[Run], num_asked: int, out: TextIO) -> list[Run]:
    """The runs that are not done; says of those that are what a person may not expect."""
    from antioversmooth.orchestration import preflight

    pending = [run for run in runs if run.result() is None]
    if len(pending) < len(runs):
        print(
            f"{len(runs) - len(pending)} of {num_asked} runs are done already and skipped", file=out
        )
    for line in [*preflight.moved_data(runs), *preflight.fresh_starts(pending)]:
        print(line, file=out)
    return pending


def tell_set_aside(runs: Sequence[Run], out: TextIO) -> dict[str, Outcome]:
    """Says which runs have a result that cannot be trusted; what becomes of them and of those that
    wait for them.

    Raises:
        ResultError: There is no other run.
    """
    from antioversmooth.errors import ResultError
    from antioversmooth.orchestration import backend

    aside = backend.set_aside(runs)
    problems = [problem for run in runs if (problem := run.invalid_result_reason())]
    if problems and len(aside) == len(runs):
        raise ResultError("\n".join(problems))
    for problem in problems:
        print(problem, file=out)
    return aside


def start(
    choice: Choice,
    runs: Sequence[Run],
    pending: Sequence[Run],
    request: Request,
    args: argparse.Namespace,
    out: TextIO,
) -> Launched:
    """Copies the code and hands over the runs that are left, with all of them in view; returns what
    became of them."""
    from antioversmooth.orchestration import snapshot
    from antioversmooth.orchestration.monitor import view

    with view.open_view(runs, out) as shown:
        code = snapshot.take(request.results(RESULTS))
        tables = [] if args.eval else [table.name for table in request.tables]
        return hand_over(choice, pending, code, shown, args, tables)


def hand_over(
    choice: Choice,
    runs: Sequence[Run],
    code: Snapshot,
    shown: View,
    args: argparse.Namespace,
    tables: Sequence[str],
) -> Launched:
    """Hands the runs, rows of these tables or of none, to the back end; returns what became of
    them."""
    from antioversmooth.orchestration.backend import Backend

    if choice.backend is Backend.slurm:
        from antioversmooth.orchestration.slurm import backend
        from antioversmooth.orchestration.slurm.mirroring import mirroring

        again = [*args.specs, *args.overrides, "--seeds", ",".join(map(str, args.seeds))]
        with mirroring(again, PROJECT) if args.follow else nullcontext():
            return backend.launch(
                runs,
                code,
                shown.say,
                shown.update,
                follow=args.follow,
                prune=args.prune,
                tables=tables,
            )
    if choice.backend is Backend.inline:
        from antioversmooth.orchestration.local import inline

        return inline.launch(runs, code, shown.say, shown.update)
    from antioversmooth.orchestration.local import pool

    return pool.launch(runs, code, shown.say, shown.update)


def agreed(choice: Choice, runs: Sequence[Run], args: argparse.Namespace) -> bool:
    """Whether the jobs may be submitted: a person at a terminal is asked, unless with `--yes`."""
    if choice.backend.value != "slurm" or args.yes or not runs or not sys.stdin.isatty():
        return True
    return input(
        f"Submit {len(runs)} jobs ({', '.join(run.name for run in runs)})? [y/N] "
    ).lower() in ("y", "yes")


def conclude(
    runs: Sequence[Run], became: Mapping[str, Outcome], as_json: bool, out: TextIO
) -> None:
    """Says what became of the runs."""
    if as_json:
        print(json.dumps([_told(run, became[run.id]) for run in runs], indent=2))
    outcomes = list(dict.fromkeys(became.values()))
    for outcome in outcomes:
        names = [run.name for run in runs if became[run.id] is outcome]
        print(f"{len(names)} of {len(runs)} {outcome.value}: {', '.join(names)}", file=out)
    if any(outcome.value == "stopped" for outcome in outcomes):
        print("The same command continues.", file=out)
    if any(outcome.value == "submitted" for outcome in outcomes):
        print(
            "How they get on: python -m antioversmooth status; to stay and see: the same command,"
            " --follow",
            file=out,
        )


def show_evaluations(runs: Sequence[Run], out: TextIO) -> None:
    """Prints what evaluations have found; `result.json` holds it class by class."""
    from antioversmooth.reporting import evaluations

    for found in filter(None, map(evaluations.of_run, runs)):
        print(f"\n{evaluations.text(found)}", file=out)


def _told(run: Run, outcome: Outcome) -> dict[str, object]:
    facts = {"experiment": run.experiment.name, "seed": run.seed, "id": run.id, "dir": str(run.dir)}
    result = {} if run.invalid_result_reason() else run.result() or {}
    return {**facts, "outcome": outcome.value, "metrics": result.get("metrics")}


if __name__ == "__main__":
    sys.exit(main())
