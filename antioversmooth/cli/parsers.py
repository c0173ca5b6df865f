"""The arguments of both programs and of every command, and what an argument may be.

Needs the standard library alone, so that `--help` is fast. `COMMANDS` says in which module of this
folder the handler of a command lies.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from antioversmooth import installation
from antioversmooth.errors import question, similar

_SWEEP = "recipe.base_lr=5e-4,1e-3"


class Parser(argparse.ArgumentParser):
    """An argument parser that reports a mistake in one line, without the usage."""

    def parse(self, words: Sequence[str] | None) -> argparse.Namespace:
        """Parses options and other words in any order; a mistake exits with 2."""
        args, unknown = self.parse_known_intermixed_args(words)
        self._require_one_run(args, unknown)
        if unknown:
            options = [word for word in unknown if word.startswith("-")]
            self.error(self._unknown_option(options[0]) if options else self._too_many(unknown))
        return args

    def error(self, message: str) -> NoReturn:
        """Exits with 2 after one line on stderr."""
        self.exit(2, f"{self.prog}: {message} (see --help)\n")

    def _require_one_run(self, args: argparse.Namespace, unknown: Sequence[str]) -> None:
        """Exits where a pattern of the shell, as ROW/seed0-*, names several runs and one is due."""
        words = [*unknown]
        for action in self._get_positional_actions():
            value = getattr(args, action.dest) if action.dest != "specs" else []
            words += map(str, value if isinstance(value, list) else [value])
        found = [word for word in words if is_run_directory(word)]
        if len(found) > 1:
            self.error(f"{len(found)} run directories, {', '.join(sorted(found))}; name one")

    def _too_many(self, words: Sequence[str]) -> str:
        names = [str(action.metavar or action.dest) for action in self._get_positional_actions()]
        wanted = " ".join(names) or "options alone"
        return f"{words[0]} is one argument too many; it takes {wanted}"

    def _unknown_option(self, word: str) -> str:
        option, _, value = word.partition("=")
        if re.match(r"--?(profile$|\w+\.\w)", option):
            override = f"{option.lstrip('-')}={value or 'VALUE'}"
            return f"there is no option {option}; an override has no dashes: {override}"
        if option in ("-m", "--multirun"):
            return f"there is no option {option}; several values are enough: {_SWEEP}"
        close = similar(option, self._option_string_actions, 1)
        return f"there is no option {option}" + (f"; did you mean {close[0]}?" if close else "")


def split_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits words into specs and overrides."""
    overrides = [word for word in words if "=" in word or word.startswith("~")]
    return [word for word in words if word not in overrides], overrides


def is_run_directory(word: str) -> bool:
    """Whether a word names the directory of a run; an override may be longer than a name can be."""
    return os.path.isfile(os.path.join(word, "spec.yaml"))


def _flag(parser: argparse._ActionsContainer, *names: str, help: str) -> None:
    """Adds an option without a value."""
    parser.add_argument(*names, action="store_true", help=help)


# -- types of arguments ----------------------------------------------------------------------------


MOST_SEED = 2**63 - 1
"""Largest seed that fits into torch's integers."""


def seeds(text: str) -> list[int]:
    """Different whole numbers: 0,1,2."""
    parts = [part.strip() for part in text.split(",")]
    if not all(map(str.isdecimal, parts)) or len(set(map(int, parts))) < len(parts):
        message = f"{text!r} is not a list of seeds: different whole numbers, as in 0,1,2"
        raise argparse.ArgumentTypeError(message)
    return [seed(part) for part in parts]


def seed(text: str) -> int:
    """A whole number that fits into torch's integers."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a seed: a whole number, as 0 or 1")
    if int(text) > MOST_SEED:
        raise argparse.ArgumentTypeError(
            f"{int(text)} is too large for a seed: the largest is {MOST_SEED}"
        )
    return int(text)


def seconds(text: str) -> float:
    """A positive number of seconds."""
    return _above_zero(text, "seconds")


def minutes(text: str) -> float:
    """A positive number of minutes."""
    return _above_zero(text, "minutes")


def _above_zero(text: str, unit: str) -> float:
    if not re.fullmatch(r"\d+(\.\d+)?", text) or not float(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} must be a number of {unit} above 0, without a unit"
        )
    return float(text)


def port(text: str) -> int:
    """A TCP port."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: 0 to 65535")
    return int(text)


def num_images(text: str) -> int:
    """A positive number of images."""
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of images from 1 on")
    return number


def share(text: str) -> tuple[int, int]:
    """Number of a share, and of all shares."""
    number, _, total = text.partition("/")
    if not (number.isdecimal() and total.isdecimal() and 1 <= int(number) <= int(total)):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a share I/N, such as 3/8 for share 3 of 8"
        )
    return int(number), int(total)


def licence(text: str) -> str:
    """The name of a licence, as the Hugging Face hub spells it: mit, cc-by-4.0."""
    from antioversmooth.cli.licences import LICENCES

    if text not in LICENCES:
        meant = question(similar(text, LICENCES)) or "there are mit, apache-2.0, ..."
        message = f"{text!r} is no name of a licence on the hub, {meant}"
        raise argparse.ArgumentTypeError(f"{message}; `other` stands for any that is not listed")
    return text


def fixed_weights(text: str) -> str:
    """The origin of weights that are no run's."""
    if not re.fullmatch(r"(timm|file):.+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is neither timm:TAG nor file:PATH")
    return text


def folder(text: str) -> Path:
    """A folder to write to; it exists or can be made."""
    if not text:
        raise argparse.ArgumentTypeError("an empty word names no folder; the one you are in is `.`")
    path = Path(text)
    # it, or the nearest of those that it would lie in
    there = next((one for one in (path, *path.parents) if os.path.lexists(one)), Path())
    if not there.is_dir():
        kind = "a link to nothing" if there.is_symlink() and not there.exists() else "a file"
        raise argparse.ArgumentTypeError(f"{there} is {kind}, and a folder belongs here")
    return path


# -- launch ----------------------------------------------------------------------------------------

LAUNCH = "launch.py"
"""The program of a checkout that is the command `launch`."""


def parse_launch(arguments: Sequence[str] | None, program: str = LAUNCH) -> argparse.Namespace:
    """Parses a launch's arguments; `overrides` also holds the options that are short for one."""
    parser = launch_parser(program)
    args = parser.parse(arguments)
    args.specs, overrides = split_overrides(args.specs)
    args.overrides = [*option_overrides(args), *overrides]
    if args.scripts and not args.dry_run:
        parser.error("--scripts shows what a --dry-run shows; add --dry-run")
    if not args.specs:
        example = "experiments/deit_s12.yaml or experiments/tables/table2.yaml"
        parser.error(f"which spec? for example {example}")
    return args


_SHORT_FOR = {
    "cluster": "cluster",
    "nodes": "cluster.nodes",
    "gpus_per_node": "cluster.gpus_per_node",
    "max_queued": "cluster.max_queued",
    "max_steps": "runtime.max_steps",
}
"""Keys of a spec, by the option that is short for their override."""


def option_overrides(args: argparse.Namespace) -> list[str]:
    """The overrides that the options of a command are short for."""
    given = vars(args)
    return [
        f"{key}={given[option]}"
        for option, key in _SHORT_FOR.items()
        if given.get(option) is not None
    ]


def _resources(parser: argparse._ActionsContainer) -> None:
    """Adds the options that say where runs run."""
    parser.add_argument(
        "--cluster", metavar="NAME", help="cluster profile: experiments/cluster/NAME.yaml"
    )
    parser.add_argument("--nodes", type=int, metavar="N", help="nodes per run (cluster.nodes)")
    parser.add_argument(
        "--gpus-per-node", type=int, metavar="N", help="GPUs per node (cluster.gpus_per_node)"
    )


_ABOUT_LAUNCH = """Trains rows and tables of experiments, on SLURM or on this machine.

    {program} experiments/cait_s24_featscale.yaml --nodes 2
    {program} experiments/tables/table2.yaml profile=mini --seeds 0,1,2

Finished runs are skipped and stopped runs resume: repeat the same command to continue.
Exit codes: 0 all done (or submitted), 1 a run failed, 2 an error that you can fix, 3 incomplete,
130 interrupted, 141 the reader of the output has left (`| head`).
"""


def launch_parser(program: str = LAUNCH) -> Parser:
    """The parser of a launch."""
    parser = Parser(
        program,
        description=_ABOUT_LAUNCH.format(program=program),
        formatter_class=argparse.RawTextHelpFormatter,
    )
    _launch(parser)
    return parser


def _launch(parser: argparse.ArgumentParser) -> None:
    specs_help = "rows, tables, and overrides of their specs"
    parser.add_argument("specs", nargs="+", metavar="SPEC|KEY=VALUE", help=specs_help)
    where = parser.add_argument_group("where")
    where.add_argument(
        "--backend",
        choices=("auto", "slurm", "local", "inline"),
        default="auto",
        help="auto: SLURM where sbatch answers, else processes of\n"
        "this machine; inline: in this process, to debug",
    )
    _resources(where)
    what = parser.add_argument_group("what")
    what.add_argument(
        "--seeds", type=seeds, default=[0], metavar="0,1,2", help="seeds of every row (default: 0)"
    )
    what.add_argument(
        "--max-steps", type=int, metavar="N", help="end each run, resumable, after step N"
    )
    what.add_argument(
        "--save-table",
        metavar="NAME",
        help="save the table of a sweep, an override with several\n"
        f"values ({_SWEEP}), as experiments/tables/NAME.yaml",
    )
    _flag(what, "--eval", help="evaluate trained runs again instead of training")
    _flag(what, "--dry-run", help="show what would be done and its price, and do nothing")
    _flag(what, "--scripts", help="of --dry-run: every batch script, not one of each shape")
    how = parser.add_argument_group("how")
    stay = how.add_mutually_exclusive_group()
    _flag(stay, "--follow", help="SLURM: stay and show progress; at the end the table")
    _flag(stay, "--detach", help="SLURM: submit and leave (the default there)")
    how.add_argument(
        "--max-queued",
        type=int,
        metavar="N",
        help="SLURM: at most N jobs of these runs in the queue at a\n"
        "time (cluster.max_queued); --follow submits the rest",
    )
    _flag(how, "--yes", help="do not ask before submitting, or before more than 1,000 runs")
    _flag(how, "--prune", help="SLURM: cancel jobs of rows that were edited since, or removed")
    _flag(how, "--json", help="the plan or the outcome as JSON; progress goes to stderr")


# -- antioversmooth COMMAND ------------------------------------------------------------------------


@dataclass(frozen=True)
class Command:
    """A word after `antioversmooth`; its handler is the function `<name>_command` of `module`,
    with `_` for `-`."""

    help: str
    module: str
    add_arguments: Callable[[argparse.ArgumentParser], None]


def parse_command(arguments: Sequence[str] | None) -> tuple[str, argparse.Namespace]:
    """Parses a command and its own arguments; a mistake exits with 2."""
    listed = "\n".join(f"  {name:<14}{command.help}" for name, command in COMMANDS.items())
    parser = Parser(
        "antioversmooth",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f"Works with runs and their results.\n\ncommands:\n{listed}",
    )
    _flag(parser, "--version", help="print the versions of this package, Python, torch and timm")
    parser.add_argument("command", metavar="COMMAND", nargs="?", default="")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...")
    args = parser.parse_args(arguments)
    if args.version:
        print(installation.versions())
        parser.exit()
    if args.command not in COMMANDS:
        parser.error(_unknown_command(args.command))
    if args.command == "launch":
        return args.command, parse_launch(args.arguments, "antioversmooth launch")
    return args.command, command_parser(args.command).parse(args.arguments)


def command_parser(name: str) -> Parser:
    """The parser of one command."""
    if name == "launch":
        return launch_parser(f"antioversmooth {name}")
    parser = Parser(f"antioversmooth {name}", description=COMMANDS[name].help)
    COMMANDS[name].add_arguments(parser)
    return parser


def _unknown_command(name: str) -> str:
    if not name:
        return f"which command? there are {', '.join(COMMANDS)}"
    if name in ("train", "run"):
        return f"there is no command `{name}`; `launch` trains"
    meant = question(similar(name, COMMANDS))
    return f"there is no command `{name}`; {meant or f'there are {len(COMMANDS)}'}"


def _specs(parser: argparse.ArgumentParser, *, required: bool = True, kind: str = "SPEC") -> None:
    parser.add_argument(
        "specs",
        nargs="+" if required else "*",
        metavar=f"{kind}|KEY=VALUE",
        help="row or table: a path or a name; overrides such as profile=mini",
    )
    parser.add_argument("--seeds", type=seeds, default=[0], metavar="0,1,2", help="default: 0")


def _row(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "row",
        nargs="+",
        metavar="SPEC|KEY=VALUE",
        help="row, and overrides such as profile=mini; or a table; or a run directory",
    )
    parser.add_argument(
        "--row", dest="row_name", metavar="ROW", help="row of several, as of a table or a sweep"
    )
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="default: 0")


def _tables(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "tables",
        nargs="+",
        metavar="TABLE|FILE.json|KEY=VALUE",
        help="table, and overrides such as profile=mini; or JSON",
    )


def _weights(parser: argparse.ArgumentParser, *, published: bool = False) -> None:
    others, help_ = ("|timm:TAG", ", or timm:TAG") if published else ("", "")
    parser.add_argument(
        "target",
        type=Path,
        metavar=f"RUN|CHECKPOINT{others}",
        help=f"run directory, or file of weights{help_}",
    )
    _row_of_weights(parser)


def _row_of_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="with --spec: changes to it"
    )
    parser.add_argument("--spec", metavar="SPEC", help="the row that weights from elsewhere are of")


def _images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--images",
        type=num_images,
        default=128,
        metavar="N",
        help="validation images; default: 128",
    )


def _output(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--output", type=folder, metavar="DIR", help=f"default: {default}")


def _doctor(parser: argparse.ArgumentParser) -> None:
    _specs(parser, required=False)
    _resources(parser)
    parser.add_argument(
        "--backend",
        choices=("auto", "slurm", "local"),
        default="auto",
        help="auto: SLURM where sbatch answers, else this machine",
    )
    parser.add_argument(
        "--wait",
        type=minutes,
        default=60.0,
        metavar="MIN",
        help="cancel a job that has not started after this time; default: 60",
    )
    _flag(parser, "--no-job", help="check this machine only")
    _flag(parser, "--json", help="the findings as JSON; progress goes to stderr")


README = "put the table between its markers in README.md, too"
NO_MODELS = "leave out the final weights: seconds and space a run"
WRITTEN_FILES = "print the files that were written as a list"


def _status(parser: argparse.ArgumentParser) -> None:
    _specs(parser, required=False)
    how = parser.add_mutually_exclusive_group()
    _flag(how, "--json", help="a list, one value a run")
    _flag(how, "--watch", help="refresh every 15 s, until nothing waits or runs")


def _why(parser: argparse.ArgumentParser) -> None:
    _row(parser)
    _flag(parser, "--json", help="the status of the run, and why")


def _logs(parser: argparse.ArgumentParser) -> None:
    _row(parser)
    _flag(parser, "-f", "--follow", help="go on until the run is done, or Ctrl-C")
    parser.add_argument("--rank", type=int, default=0, metavar="N", help="process; default: 0")


def _cancel(parser: argparse.ArgumentParser) -> None:
    _specs(parser)
    _flag(parser, "--json", help="a list, one value a run")


def _retry(parser: argparse.ArgumentParser) -> None:
    _specs(parser)
    _flag(parser, "--failed", help="runs that were given up (the default, and all it does)")
    _flag(parser, "--json", help="a list of the outcomes of runs; progress goes to stderr")


def _table(parser: argparse.ArgumentParser) -> None:
    _specs(parser)
    _output(parser, "the results folder of the profile")
    _flag(
        parser,
        "--allow-partial",
        help="exit 0 without all rows; may replace a table that has more of them",
    )
    _flag(parser, "--json", help="print the JSON value that every format is rendered from")
    _flag(parser, "--readme", help=README)


def _analyze(parser: argparse.ArgumentParser) -> None:
    _weights(parser, published=True)
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="of timm:TAG: a folder of images, at any depth"
    )
    _images(parser)
    _output(parser, "analysis/ in the run, beside the file, or TAG.analysis")
    _flag(parser, "--json", help=WRITTEN_FILES)


def _evaluate(parser: argparse.ArgumentParser) -> None:
    _weights(parser)
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="other validation images, of all or some of the classes: DIR/val/<class>/*,"
        " DIR/<class>/*, or a .tar file of the same; of some classes, only their logits compete",
    )
    parser.add_argument(
        "--class-map",
        metavar="index|FILE",
        help="where class folders are not named as the weights' classes: index, if they are named"
        " by number, or a JSON file of the name or number for each folder",
    )
    _flag(parser, "--average", help="evaluate the moving average of the weights")
    _flag(parser, "--json", help="print everything, top-1 of each class included")


def _throughput(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="ROW|RUN|timm:TAG", help="what is measured")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="changes to the row, as model.depth=24"
    )
    parser.add_argument(
        "--batch", type=num_images, default=64, metavar="N", help="images a pass; default: 64"
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float16"),
        help="on a GPU; default: that of the row's recipe, float32 of a timm model",
    )
    _flag(parser, "--json", help="print everything, each round included")


def _data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "specs",
        nargs="+",
        metavar="SPEC|DIR|KEY=VALUE",
        help="row, and overrides such as data.root=/path; or a folder or tar file that no spec"
        " describes: writes its data spec",
    )
    parser.add_argument(
        "--name", metavar="NEWNAME", help="of DIR: name of the spec (default: as the folder)"
    )
    parser.add_argument(
        "--label",
        metavar="FIELD",
        help="of DIR: column (Hugging Face) or field of key.json (shards) with the class",
    )
    parser.add_argument(
        "--split",
        type=Path,
        metavar="NEWDIR",
        help="of DIR without validation images: hold out a fifth of each class, as links in NEWDIR",
    )
    _flag(parser, "--anew", help="list the images again, although their listing is cached")
    _flag(parser, "--decode", help="decode every image, and name those that are damaged")
    _flag(
        parser,
        "--build-cache",
        help="check the parts of the decoded cache (data.cache), and make those that are missing",
    )
    parser.add_argument(
        "--share",
        type=share,
        metavar="I/N",
        help="of --build-cache: the I-th of N shares, one for each job of an array",
    )
    _flag(parser, "--json", help="a list, one value a data set")


def _convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="SOURCE", help="run directory, file of weights in any layout, or timm:TAG"
    )
    parser.add_argument(
        "target", type=Path, metavar="TARGET", help=".safetensors, or .pth in the official layout"
    )
    _row_of_weights(parser)
    _flag(parser, "--fold", help="fold the scaling away: a plain timm model (CaiT's AttnScale)")
    _flag(parser, "--average", help="write the moving average of the weights")
    parser.add_argument(
        "--key",
        default="",
        metavar="KEY",
        help="key or prefix of the weights, in a file that holds several: teacher",
    )
    _flag(parser, "--json", help="print what was done with each tensor of the source")


def _figures(parser: argparse.ArgumentParser) -> None:
    _specs(parser, kind="FIGURE")
    _images(parser)
    _output(parser, "figures/ in the profile's results folder")
    _flag(parser, "--json", help=WRITTEN_FILES)


def _sync(parser: argparse.ArgumentParser) -> None:
    _specs(parser)
    _flag(parser, "--no-models", help=NO_MODELS)
    _flag(parser, "--json", help="a list, one value an MLflow experiment")


def _ui(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port", type=port, metavar="N", help="0: any free port; default: 5000, or any if in use"
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
    _flag(parser, "--no-models", help=NO_MODELS)


def _verify(parser: argparse.ArgumentParser) -> None:
    _tables(parser)
    parser.add_argument(
        "--results", type=Path, metavar="DIR", help="holds runs/; default: the folder of the JSON"
    )
    _flag(parser, "--without-checkpoints", help="do not ask for the files of weights")
    _flag(parser, "--evaluate", help="evaluate the weights of each run again, on its own data")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="of --evaluate: where the images are now"
    )
    _flag(parser, "--json", help="every value, and whether the runs confirm it")


def _render(parser: argparse.ArgumentParser) -> None:
    _tables(parser)
    _flag(parser, "--readme", help=README)
    _flag(parser, "--json", help=WRITTEN_FILES)


def _export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "specs",
        nargs="+",
        metavar="RUN|SPEC|KEY=VALUE",
        help="run directories; or rows and tables, and overrides such as profile=mini",
    )
    parser.add_argument(
        "--seeds", type=seeds, default=[0], metavar="0,1,2", help="of rows and tables; default: 0"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="default: named after what is in it, .tar"
    )
    _flag(parser, "--without-checkpoints", help="leave the final weights out")
    _flag(parser, "--allow-partial", help="leave out runs that are not done")
    _flag(parser, "--json", help="the file, and the runs that are in it")


def _export_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="directory of a run that is done")
    parser.add_argument("target", type=folder, metavar="DIR", help="a new folder")
    _flag(parser, "--fold", help="fold the method away: a plain timm model (CaiT's AttnScale)")
    _flag(parser, "--average", help="the moving average of the weights, not what tables show")
    parser.add_argument(
        "--license", type=licence, metavar="NAME", help="of the weights, as the hub names it: mit"
    )
    _flag(parser, "--json", help=WRITTEN_FILES)


def _import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundles", nargs="+", type=Path, metavar="FILE", help="from `export`")
    _flag(parser, "--json", help="a list of the runs, and whether each is new")


def _schema(parser: argparse.ArgumentParser) -> None:
    kinds = ("row", "table", "figure", "model", "data", "recipe", "cluster")
    parser.add_argument(
        "kind", nargs="?", choices=kinds, default="row", help="of file (default: row)"
    )


def _init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=folder, metavar="DIR", help="made if it is not there")
    _flag(parser, "--json", help=WRITTEN_FILES)


def _new(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="ROW", help="name of the new row")
    parser.add_argument(
        "--from", dest="origin", required=True, metavar="ROW", help="row to copy from"
    )
    parser.add_argument(
        "--data", metavar="DATA", help="name of its data spec; the training then fits its size"
    )
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--weights",
        type=fixed_weights,
        metavar="ORIGIN",
        help="of --data: timm:TAG or file:PATH to fine-tune (default: timm's, of the backbone)",
    )
    _flag(start, "--from-scratch", help="of --data: start from random weights")
    _flag(parser, "--json", help="print the file that was written")


def _completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh"), help="that sources the script")


COMMANDS: dict[str, Command] = {
    "init": Command("make a project folder: specs, Makefile, a site profile", "specs", _init),
    "launch": Command("train the rows of specs, on SLURM or on this machine", "launch", _launch),
    "doctor": Command("check whether runs will work here, before they start", "doctor", _doctor),
    "status": Command("the state of each run, its progress and its cost", "runs", _status),
    "why": Command("what happened to a run last, and what will happen next", "runs", _why),
    "logs": Command("print the logs of a run's newest attempt", "runs", _logs),
    "cancel": Command(
        "end runs; they stay resumable, and resume when they are launched", "runs", _cancel
    ),
    "retry": Command("restart runs that were given up, after a fix", "runs", _retry),
    "table": Command("render a table from its runs", "results", _table),
    "analyze": Command(
        "measure and draw the layers of a run, checkpoint or timm model", "weights", _analyze
    ),
    "evaluate": Command("measure the accuracy of a run or checkpoint", "weights", _evaluate),
    "throughput": Command(
        "measure images per second of a model's forward pass", "throughput", _throughput
    ),
    "data": Command("count a data set, and compare it with its spec; or write one", "specs", _data),
    "convert": Command(
        "write weights as safetensors, or for the released code", "weights", _convert
    ),
    "figures": Command("draw figures from their runs", "results", _figures),
    "sync": Command("mirror the runs of rows or tables into MLflow", "tracking", _sync),
    "ui": Command("open MLflow on all runs, and keep it up to date", "tracking", _ui),
    "verify": Command(
        "compare a committed table with the runs that it was made from", "results", _verify
    ),
    "render": Command(
        "write the files of a committed table again, from its JSON", "results", _render
    ),
    "export": Command("pack finished runs into a file that others can check", "results", _export),
    "export-model": Command(
        "write a finished run as a folder that timm and the Hugging Face hub take",
        "results",
        _export_model,
    ),
    "import": Command("import a bundle of runs that `export` made", "results", _import),
    "schema": Command("print the JSON Schema of a kind of spec, for editors", "specs", _schema),
    "new": Command(
        "start a new row as a copy of another one, on its data or on yours", "specs", _new
    ),
    "completion": Command("print the completion script for bash or zsh", "specs", _completion),
}
