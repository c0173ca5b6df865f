"""`antioversmooth COMMAND`: what people type about runs that exist; `launch.py` is what starts
them.

A command is a class with the arguments that it takes and a `run` that returns the exit code: 0
good, 1 a table that its runs contradict, 2 a mistake that the message explains, 3 a table that is
not complete or whose runs are gone. Nothing heavier than argparse is imported before a command
runs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antioversmooth.cli.arguments import Parser, divide, folder, port, seconds
from antioversmooth.cli.entry import guarded
from antioversmooth.cli.requests import (
    Command,
    json_argument,
    request_of,
    spec_arguments,
    tell_written,
)
from antioversmooth.cli.results import SHARING
from antioversmooth.cli.runs import OPERATIONS
from antioversmooth.errors import SpecError
from antioversmooth.project import find_root, find_spec

if TYPE_CHECKING:
    from antioversmooth.config import DataConfig, Experiment

INCOMPLETE = 3
"""Exit code where a table misses rows."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code."""
    parser = Parser(
        prog="antioversmooth",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=_overview(),
    )
    parser.add_argument("command", metavar="COMMAND", nargs="?", default="")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...")
    given = parser.parse_args(arguments)
    command = COMMANDS.get(given.command)
    if command is None:
        return guarded("antioversmooth", lambda: parser.error(_no_such_command(given.command)))
    inner = Parser(prog=f"antioversmooth {given.command}", description=command.help)
    command.arguments(inner)
    words = inner.read(given.arguments)
    return guarded(inner.prog, lambda: command.run(words))


def _overview() -> str:
    lines = [f"  {name:<12}{command.help}" for name, command in COMMANDS.items()]
    return "\n".join(["Looks after runs and their results.", "", "commands:", *lines])


def _no_such_command(name: str) -> str:
    from antioversmooth.spec.problems import did_you_mean, there_are

    if not name:
        return f"which command? {there_are(COMMANDS)}"
    way_out = (
        "what trains is launch.py"
        if name in ("launch", "train", "run")
        else did_you_mean(name, COMMANDS)
    )
    return f"there is no command `{name}`; {way_out}"


def _row_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="with --spec: changes to it"
    )
    parser.add_argument("--spec", metavar="SPEC", help="the row that weights from elsewhere are of")


def _row(given: argparse.Namespace) -> Experiment | None:
    """The row that weights are said to be of; None where it is that of the run that they belong
    to."""
    from antioversmooth import spec

    if given.spec:
        return spec.load_experiment(find_spec(given.spec, find_root()), given.overrides)
    if given.overrides:
        raise SpecError(
            "changes a row, and none is named; add --spec ROW", where=" ".join(given.overrides)
        )
    return None


# -- table -----------------------------------------------------------------------------------------


def _table_arguments(parser: argparse.ArgumentParser) -> None:
    spec_arguments(parser)
    parser.add_argument(
        "--output", type=folder, metavar="DIR", help="default: the results folder of the profile"
    )
    parser.add_argument("--allow-partial", action="store_true", help=ALLOW_PARTIAL_HELP)
    json_argument(parser, "print the JSON value that every format is rendered from")
    parser.add_argument(
        "--readme", action="store_true", help="put the table between its markers in README.md, too"
    )


ALLOW_PARTIAL_HELP = (
    "exit 0 though rows are missing, and write it over a table that has more of them"
)


def _table(given: argparse.Namespace) -> int:
    from antioversmooth.reporting.rendering import markdown, terminal
    from antioversmooth.reporting.table import document, write

    request, results = request_of(given.specs)
    if not request.tables:
        raise SpecError(
            f"names no table; tables lie in {request.folder}/tables", where=" ".join(given.specs)
        )
    complete = True
    for table in request.tables:
        collected = document.collect(table, request, given.seeds, results)
        complete &= collected["complete"]
        folder = write.destination(request, results, given.output)
        # before it is shown: nobody may read on
        kept = _keep(folder, collected, may_lose=given.allow_partial)
        if given.readme and kept:
            markdown.update_readme(
                results.parent / "README.md", collected, may_lose=given.allow_partial
            )
        if given.json:
            print(document.dumps(collected), end="")
        else:
            terminal.show_table(collected, sys.stdout)
    return 0 if complete or given.allow_partial else INCOMPLETE


def _keep(folder: Path | None, collected: dict[str, Any], *, may_lose: bool) -> bool:
    """Writes the table's files, or says why not; returns whether they are written.

    Args:
        may_lose: Whether it may take the place of a table that has more numbers.
    """
    from antioversmooth.reporting.rendering import markdown
    from antioversmooth.reporting.table import write

    if folder is None:
        print(
            "not written: overrides make these other rows than the committed table's; name"
            " --output",
            file=sys.stderr,
        )
        return False
    if not may_lose and (why := write.kept_for(collected, folder)):
        print(f"not written: {why}; {markdown.WAY_OUT}, --output DIR elsewhere", file=sys.stderr)
        return False
    print(f"written: {', '.join(map(str, write.write(collected, folder)))}", file=sys.stderr)
    return True


# -- sync, ui --------------------------------------------------------------------------------------


def _sync_arguments(parser: argparse.ArgumentParser) -> None:
    spec_arguments(parser)
    _models_argument(parser)
    json_argument(parser, "a list, one value an MLflow experiment")


def _models_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-models",
        action="store_true",
        help="leave out the final weights: seconds and space a run",
    )


def _sync(given: argparse.Namespace) -> int:
    from antioversmooth.reporting.table.observe import observe
    from antioversmooth.reporting.tracking import mirror
    from antioversmooth.reporting.tracking.logged_models import LoggedModels

    request, results = request_of(given.specs)
    observed = [observe(run) for run in request.plan(given.seeds, results)]
    mirrored = mirror.sync(observed, request.tables, results)
    models = LoggedModels(results)
    logged = [] if given.no_models else models.sync(observed, mirrored)
    for problem in models.problems.values():
        print(f"not logged as a model: {problem}", file=sys.stderr)
    if given.json:
        print(
            json.dumps(
                [{**asdict(experiment), "models": len(logged)} for experiment in mirrored], indent=2
            )
        )
        return 0
    for experiment in mirrored:
        print(
            f"{experiment.name}: {experiment.num_changed} of {experiment.num_runs} runs brought up"
            " to date"
        )
    print(f"{len(logged)} models logged" if mirrored else "Nothing has run yet.")
    return 0


def _ui_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port",
        type=port,
        metavar="N",
        help="0: any that is free; default: 5000, or any where taken",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; default: this machine alone"
    )
    parser.add_argument(
        "--every",
        type=seconds,
        default=15.0,
        metavar="SECONDS",
        help="between two syncs; default: 15",
    )
    _models_argument(parser)


def _ui(given: argparse.Namespace) -> int:
    from antioversmooth import spec
    from antioversmooth.reporting.tracking import ui

    root = find_root()
    tables = [
        spec.load_table(path) for path in sorted((root / "experiments" / "tables").glob("*.yaml"))
    ]
    place = ui.Place(given.host, given.port)
    ui.serve(
        root / "results",
        tables,
        place,
        every_s=given.every,
        models=not given.no_models,
        out=sys.stdout,
    )
    return 0


# -- analyze, figures ------------------------------------------------------------------------------


def _at_least_one(text: str) -> int:
    """A number of images from the command line."""
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of images: a whole number from 1 on"
        )
    return number


def _analyze_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target", type=Path, metavar="RUN|CHECKPOINT", help="run directory, or file of weights"
    )
    _row_arguments(parser)
    parser.add_argument(
        "--images",
        type=_at_least_one,
        default=128,
        metavar="N",
        help="validation images; default: 128",
    )
    parser.add_argument(
        "--output",
        type=folder,
        metavar="DIR",
        help="default: analysis/ in the run, or beside the file",
    )
    json_argument(parser, "print the files that were written as a list")


def _analyze(given: argparse.Namespace) -> int:
    from antioversmooth.analysis import drawing, overview
    from antioversmooth.reporting.rendering import gallery
    from antioversmooth.training.weights.analyse import analyse

    found = analyse(given.target, _row(given), num_images=given.images)
    beside = (
        given.target / "analysis"
        if given.target.is_dir()
        else given.target.with_suffix(".analysis")
    )
    folder = given.output or beside
    written = found.write(folder)
    for picture in overview.pictures(found):
        written += drawing.write(picture, folder)
    written.append(gallery.write(folder, found.title))
    tell_written(written, as_json=given.json)
    return 0


def _figures_arguments(parser: argparse.ArgumentParser) -> None:
    spec_arguments(parser, of="FIGURE")
    parser.add_argument(
        "--images",
        type=_at_least_one,
        default=128,
        metavar="N",
        help="validation images; default: 128",
    )
    parser.add_argument(
        "--output",
        type=folder,
        metavar="DIR",
        help="default: figures/ in the profile's results folder",
    )
    json_argument(parser, "print the files that were written as a list")


def _figures(given: argparse.Namespace) -> int:
    root = find_root()
    specs, overrides = divide(given.specs)
    paths = [find_spec(text, root) for text in specs]
    drawn = [_draw(path, overrides, given, root / "results") for path in paths]
    # all are on one page
    written = list(dict.fromkeys(file for files in drawn for file in files or []))
    if written or given.json:
        tell_written(written, as_json=given.json)
    return INCOMPLETE if None in drawn else 0


def _draw(
    path: Path, overrides: list[str], given: argparse.Namespace, results: Path
) -> list[Path] | None:
    """Draws one figure; returns the files that were written, None where no row that is done has
    anything to draw."""
    from antioversmooth import spec
    from antioversmooth.analysis import drawing
    from antioversmooth.reporting import figures
    from antioversmooth.reporting.rendering import gallery

    figure, request = spec.load_figure(path, overrides)
    folder = figures.destination(request, results, given.output)
    picture = figures.picture(figure, request, given.seeds, results, num_images=given.images)
    if picture is None:
        print(
            f"{figure.name}: none of its rows is done, or none that is has what it shows",
            file=sys.stderr,
        )
        return None
    if folder is None:
        print(
            f"{figure.name}: overrides make these other rows than the figure's; name --output",
            file=sys.stderr,
        )
        return []
    return [*drawing.write(picture, folder), gallery.write(folder)]


# -- evaluate, convert -----------------------------------------------------------------------------


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target", type=Path, metavar="RUN|CHECKPOINT", help="run directory, or file of weights"
    )
    _row_arguments(parser)
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="another folder of images: DIR/val/<class>/*"
    )
    parser.add_argument(
        "--average", action="store_true", help="evaluate the moving average of the weights"
    )
    json_argument(parser, "print everything, top-1 of each class included")


def _evaluate(given: argparse.Namespace) -> int:
    from antioversmooth.reporting import evaluations
    from antioversmooth.training.run.distributed import find_place
    from antioversmooth.training.weights.evaluate import evaluate_checkpoint, run_of

    experiment = _row(given) or run_of(given.target).experiment
    data = evaluations.elsewhere(experiment.data, given.data) if given.data else experiment.data
    found = evaluate_checkpoint(given.target, experiment, data=data, average=given.average)
    told = evaluations.record(given.target, experiment, data, found)
    # started by torchrun, all processes know it
    if find_place(os.environ).rank == 0:
        print(json.dumps(told, indent=2) if given.json else evaluations.text(told))
    return 0


def _convert_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="SOURCE", help="run directory, file of weights in any layout, or timm:TAG"
    )
    parser.add_argument(
        "target", type=Path, metavar="TARGET", help=".safetensors, or .pth in the official layout"
    )
    _row_arguments(parser)
    parser.add_argument(
        "--fold",
        action="store_true",
        help="fold the scaling away: a plain timm model (CaiT's AttnScale)",
    )
    parser.add_argument(
        "--average", action="store_true", help="write the moving average of the weights"
    )
    json_argument(parser, "print what became of each tensor of the source")


def _convert(given: argparse.Namespace) -> int:
    from antioversmooth.training.weights.convert import convert

    report = convert(
        given.source, given.target, _row(given), fold=given.fold, average=given.average
    )
    if given.json:
        print(json.dumps({**asdict(report), "written": str(given.target)}, indent=2))
    else:
        print("\n".join([*report.lines(), f"written: {given.target}"]))
    return 0


# -- data ------------------------------------------------------------------------------------------


def _data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "specs",
        nargs="+",
        metavar="SPEC|KEY=VALUE",
        help="row, and overrides such as data.root=/path",
    )
    parser.add_argument("--json", action="store_true", help="a list, one value a data set")


def _data(given: argparse.Namespace) -> int:
    """Prints what is found, and says whether it is what the spec says."""
    from antioversmooth.datasets import listing

    request, _ = request_of(given.specs)
    configs: list[DataConfig] = []
    for experiment in request.experiments:
        configs += [experiment.data] if experiment.data not in configs else []
    found = [listing.facts(config) for config in configs]
    if given.json:
        print(json.dumps(found, indent=2))
    else:
        print(
            "\n".join(f"{key:<12} {value}" for facts in found for key, value in facts.items()),
            flush=True,
        )
    for config, facts in zip(configs, found, strict=True):
        listing.check(config, facts)
    return 0


# -- schema, new -----------------------------------------------------------------------------------


def _schema_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = ("row", "table", "figure", "model", "data", "recipe", "cluster")
    parser.add_argument(
        "kind", nargs="?", choices=kinds, default="row", help="of file (default: row)"
    )


def _schema(given: argparse.Namespace) -> int:
    from antioversmooth.spec.schema import json_schema

    print(json.dumps(json_schema(given.kind), indent=2))
    return 0


def _new_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="ROW", help="name of the new row")
    parser.add_argument(
        "--from",
        dest="origin",
        required=True,
        metavar="ROW",
        help="row that it starts as a copy of",
    )
    json_argument(parser, "print the file that was written")


def _new(given: argparse.Namespace) -> int:
    from antioversmooth.spec.draft import draft

    path = draft(given.name, find_spec(given.origin, find_root()))
    print(json.dumps({"written": str(path)}) if given.json else path)
    return 0


# -- completion ------------------------------------------------------------------------------------


def _completion_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh"), help="that sources what is printed")


def _completion(given: argparse.Namespace) -> int:
    from antioversmooth.cli.completion import script

    print(script(given.shell, COMMANDS, find_root()))
    return 0


COMMANDS: dict[str, Command] = {
    **OPERATIONS,
    "table": Command("render a table from what has run", _table_arguments, _table),
    "analyze": Command(
        "measure and draw the layers of a run, or of a file of weights",
        _analyze_arguments,
        _analyze,
    ),
    "evaluate": Command(
        "accuracy of a run, of a checkpoint, or of a file of weights",
        _evaluate_arguments,
        _evaluate,
    ),
    "data": Command("count a data set, and hold it against its spec", _data_arguments, _data),
    "convert": Command(
        "write weights as safetensors, or for the released code", _convert_arguments, _convert
    ),
    "figures": Command("draw figures from what has run", _figures_arguments, _figures),
    "sync": Command(
        "bring MLflow up to date with the runs of rows or tables", _sync_arguments, _sync
    ),
    "ui": Command("open MLflow on all that has run, and keep it up to date", _ui_arguments, _ui),
    **SHARING,
    "schema": Command(
        "print the JSON Schema of a kind of spec, for editors", _schema_arguments, _schema
    ),
    "new": Command("start a new row from another one", _new_arguments, _new),
    "completion": Command(
        "print what makes bash or zsh complete all of this", _completion_arguments, _completion
    ),
}
