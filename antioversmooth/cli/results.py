"""The commands with which a result is checked, and handed to others: verify, render, export,
import."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from antioversmooth.cli.arguments import seeds
from antioversmooth.cli.requests import Command, json_argument, request_of, tell_written
from antioversmooth.errors import SpecError, UserError
from antioversmooth.project import find_root, find_spec

if TYPE_CHECKING:
    from antioversmooth.config import Table
    from antioversmooth.runs import Run

DIFFERS, GONE = 1, 3
"""Exit codes of `verify`; 0 only where everything is confirmed."""

# -- verify, render --------------------------------------------------------------------------------


def _table_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "tables",
        nargs="+",
        metavar="TABLE|FILE.json|KEY=VALUE",
        help="table, and overrides such as profile=mini; or JSON",
    )


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    _table_arguments(parser)
    parser.add_argument(
        "--results", type=Path, metavar="DIR", help="holds runs/; default: the folder of the JSON"
    )
    parser.add_argument(
        "--without-checkpoints", action="store_true", help="do not ask for the files of weights"
    )
    parser.add_argument("--json", action="store_true", help="every value and what became of it")


def _verify(given: argparse.Namespace) -> int:
    codes = [_verify_one(path, spec, given) for path, spec in _committed(given.tables)]
    return DIFFERS if DIFFERS in codes else max(codes)


def _verify_one(path: Path, spec: Table | None, given: argparse.Namespace) -> int:
    from antioversmooth.reporting.sharing import verify
    from antioversmooth.reporting.table import write

    document = verify.load(path)
    reports = verify.verify(
        document, given.results or path.parent, spec, checkpoints=not given.without_checkpoints
    )
    rendered = write.compare(document, path, find_readme(path))
    counts = verify.count(reports)
    if given.json:
        print(json.dumps(verify.as_json(document, reports, rendered), indent=2))
    else:
        print("\n".join([f"{path}: {document['title']}", *verify.lines(reports, rendered)]))
    if counts["differs"] or counts["foreign"] or not all(rendered.values()):
        return DIFFERS
    return GONE if counts["gone"] else 0


def find_readme(path: Path) -> Path | None:
    """README.md of the project that a committed table lies in; None outside of one."""
    try:
        readme = find_root(path.absolute().parent) / "README.md"
    except UserError:
        return None
    return readme if readme.is_file() else None


def _committed(words: Sequence[str]) -> list[tuple[Path, Table | None]]:
    """The JSON of each table that is named, and its spec where there is one.

    Raises:
        SpecError: All that is wrong with specs and overrides.
    """
    found = [(Path(word), _spec_of(Path(word))) for word in words if word.endswith(".json")]
    specs = [word for word in words if not word.endswith(".json")]
    if not specs:
        return found
    request, results = request_of(specs)
    if not request.tables:
        raise SpecError(
            f"names no table; tables lie in {request.folder}/tables", where=" ".join(specs)
        )
    return [
        *found,
        *(
            (_there(request.results(results) / f"{table.name}.json"), table)
            for table in request.tables
        ),
    ]


def _there(path: Path) -> Path:
    """The path of a table's JSON.

    Raises:
        UserError: There is none; names those of other profiles.
    """
    others = [other.parent.name for other in sorted(path.parent.glob(f"*/{path.name}"))]
    if not path.is_file() and others:
        raise UserError(
            f"there is no {path}; of another profile there is: profile={', profile='.join(others)}"
        )
    return path


def _spec_of(path: Path) -> Table | None:
    from antioversmooth import spec

    try:
        return spec.load_table(find_spec(path.stem, find_root(path.absolute().parent)))
    except UserError:
        return None


def _render_arguments(parser: argparse.ArgumentParser) -> None:
    _table_arguments(parser)
    parser.add_argument(
        "--readme", action="store_true", help="put the table between its markers in README.md, too"
    )
    json_argument(parser, "print the files that were written as a list")


def _render(given: argparse.Namespace) -> int:
    from antioversmooth.reporting.rendering import gallery, markdown
    from antioversmooth.reporting.sharing import verify
    from antioversmooth.reporting.table import write

    written = []
    for path, _ in _committed(given.tables):
        document = verify.load(path)
        written += write.write(document, path.parent)
        if document.get("figures") and (path.parent / "figures" / gallery.PAGE).is_file():
            written.append(gallery.write(path.parent / "figures"))
        if given.readme:
            markdown.update_readme(find_root(path.absolute().parent) / "README.md", document)
    tell_written(written, as_json=given.json)
    return 0


# -- export, import --------------------------------------------------------------------------------


def _export_arguments(parser: argparse.ArgumentParser) -> None:
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
    parser.add_argument(
        "--without-checkpoints", action="store_true", help="leave the final weights out"
    )
    parser.add_argument(
        "--allow-partial", action="store_true", help="leave out runs that are not done"
    )
    json_argument(parser, "the file, and the runs that are in it")


def _export(given: argparse.Namespace) -> int:
    from antioversmooth.reporting.sharing import bundle

    runs, name = _to_export(given)
    if given.allow_partial:
        for problem in filter(None, (run.invalid_result_reason() for run in runs)):
            print(f"left out: {problem}", file=sys.stderr)
        runs = [run for run in runs if not run.invalid_result_reason() and run.result() is not None]
    if not runs:
        raise UserError(
            "none of these runs is done, and a bundle is made of results; launch them to their end"
            " first"
        )
    target = given.output or Path(f"{name}.tar")
    held = bundle.export(runs, target, checkpoints=not given.without_checkpoints)
    if given.json:
        print(json.dumps({"file": str(target), "runs": [str(run.dir) for run in runs]}, indent=2))
    else:
        print(f"{target}: {len(held)} runs, {target.stat().st_size / 2**20:,.1f} MiB")
    return 0


def _to_export(given: argparse.Namespace) -> tuple[list[Run], str]:
    """The runs that are named, and a name for all of them together."""
    from antioversmooth.reporting.sharing import bundle
    from antioversmooth.runs import Run

    directories = [Path(word) for word in given.specs if (Path(word) / "spec.yaml").is_file()]
    if len(directories) == len(given.specs):
        runs = [Run.load(directory) for directory in directories]
        return runs, bundle.place(runs[0]).replace("/", "-") if len(runs) == 1 else "runs"
    request, results = request_of(given.specs)
    named = request.tables or request.experiments
    profile = request.experiments[0].profile
    return (
        request.plan(given.seeds, results),
        f"{named[0].name if len(named) == 1 else 'runs'}-{profile}",
    )


def _import_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundles", nargs="+", type=Path, metavar="FILE", help="what `export` wrote")
    json_argument(parser, "a list of the runs, and whether each is new")


def _import(given: argparse.Namespace) -> int:
    from antioversmooth.reporting.sharing.unbundle import import_bundle

    results = find_root() / "results"
    told = []
    for path in given.bundles:
        for imported in import_bundle(path, results):
            told.append(
                {"id": imported.run.id, "dir": str(imported.run.dir), "is_new": imported.is_new}
            )
            if not given.json:
                print(
                    f"{imported.run.name}: {'put into' if imported.is_new else 'is already in'}"
                    f" {imported.run.dir}"
                )
    if given.json:
        print(json.dumps(told, indent=2))
    return 0


SHARING = {
    "verify": Command(
        "hold a committed table against the runs that it was made from", _verify_arguments, _verify
    ),
    "render": Command(
        "write a committed table's files again, from its JSON", _render_arguments, _render
    ),
    "export": Command(
        "pack runs that are done into a file that others can check", _export_arguments, _export
    ),
    "import": Command("put the runs of such a file among the results", _import_arguments, _import),
}
