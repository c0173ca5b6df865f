"""What the commands of `antioversmooth` share: a command, and the specs and runs that their
arguments name."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from antioversmooth.cli.arguments import divide, seeds
from antioversmooth.errors import SpecError
from antioversmooth.project import find_root, find_spec

if TYPE_CHECKING:
    from antioversmooth.runs import Run
    from antioversmooth.spec import Request


@dataclass(frozen=True)
class Command:
    """A word after `antioversmooth`."""

    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def spec_arguments(
    parser: argparse.ArgumentParser, *, required: bool = True, of: str = "SPEC"
) -> None:
    """Adds specs, overrides and `--seeds`.

    Args:
        of: What the specs are of, for the help and for completion.
    """
    parser.add_argument(
        "specs",
        nargs="+" if required else "*",
        metavar=f"{of}|KEY=VALUE",
        help="row or table: a path or a name; overrides such as profile=mini",
    )
    parser.add_argument("--seeds", type=seeds, default=[0], metavar="0,1,2", help="default: 0")


def json_argument(parser: argparse.ArgumentParser, what: str) -> None:
    """Adds `--json`, for programs; what people read of a command then goes to stderr, or
    nowhere."""
    parser.add_argument("--json", action="store_true", help=what)


def tell_written(paths: Sequence[Path], *, as_json: bool) -> None:
    """Says which files were written: to people on stderr, else as a JSON list."""
    if as_json:
        print(json.dumps([str(path) for path in paths], indent=2))
    else:
        print(f"written: {', '.join(map(str, paths))}", file=sys.stderr)


def request_of(words: Sequence[str]) -> tuple[Request, Path]:
    """The request that specs and overrides make, and the project's results folder.

    Raises:
        SpecError: All that is wrong with them.
    """
    # hydra, which `--help` need not wait for
    from antioversmooth import spec

    root = find_root()
    specs, overrides = divide(words)
    paths = [find_spec(word, root) for word in specs]
    if not paths:
        raise SpecError(
            "which row or table? for example deit_s12, or table2", where=" ".join(words)
        )
    return spec.load(paths, overrides), root / "results"


def row_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds one row, by name or by run directory, and its seed."""
    parser.add_argument(
        "row",
        nargs="+",
        metavar="ROW|KEY=VALUE",
        help="row, and overrides such as profile=mini; or a run directory",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")


def run_of(words: Sequence[str], seed: int) -> Run:
    """The run of a row and a seed.

    Raises:
        SpecError: It is not one row, or the row has never been launched like this.
    """
    from antioversmooth.runs import Run

    if len(words) == 1 and (Path(words[0]) / "spec.yaml").is_file():
        return Run.load(Path(words[0]))
    request, results = request_of(words)
    if request.tables or len(request.experiments) != 1:
        names = ", ".join(experiment.name for experiment in request.experiments)
        raise SpecError(f"names no single row; name one of {names}", where=" ".join(words))
    run = request.plan([seed], results)[-1]
    if not run.dir.exists():
        beside = [*results.glob(_directories(run)), *results.glob(f"*/{_directories(run)}")]
        found = (
            f"; name the one that you mean: {', '.join(map(str, sorted(beside)))}" if beside else ""
        )
        raise SpecError(
            f"seed {seed} has never been launched like this{found}", where=" ".join(words)
        )
    return run


def _directories(run: Run) -> str:
    return f"runs/{run.experiment.name}/seed{run.seed}-*"
