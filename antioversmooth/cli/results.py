"""Handlers of the commands about results: table, figures, verify, render, export, export-model,
import."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from antioversmooth import spec
from antioversmooth.analysis import drawing
from antioversmooth.cli.exit_codes import FAILED, INCOMPLETE, OK
from antioversmooth.cli.parsers import split_overrides
from antioversmooth.cli.requests import (
    load_request,
    load_runs,
    load_tables_request,
    print_json,
    report_written,
)
from antioversmooth.config import Table
from antioversmooth.errors import UserError, and_more
from antioversmooth.orchestration import preflight
from antioversmooth.project import find_root, find_spec
from antioversmooth.reporting import figures
from antioversmooth.reporting.rendering import gallery, markdown, terminal
from antioversmooth.reporting.sharing import (
    bundle,
    content,
    model_folder,
    reevaluate,
    report,
    verify,
)
from antioversmooth.reporting.sharing.checks import Check
from antioversmooth.reporting.sharing.unbundle import import_bundle, require_bundle
from antioversmooth.reporting.table import document, tables
from antioversmooth.reporting.table.document import Document
from antioversmooth.reporting.table.observe import Observation
from antioversmooth.runs import Run
from antioversmooth.text import counted

OTHER_ROWS = "overrides make these other rows than the committed table's"


def table_command(args: Namespace) -> int:
    """Renders, shows and writes tables."""
    request, results = load_tables_request(args.specs)
    complete = True
    for table in request.tables:
        collected = document.collect(table, request, args.seeds, results)
        complete &= collected["complete"]
        folder = tables.destination(request, results, args.output)
        # written before it is shown: the reader of stdout may leave
        written = _write_unless_lossy(folder, collected, args)
        if args.readme and written:
            readme = results.parent / "README.md"
            markdown.update_readme(readme, collected, may_lose=args.allow_partial)
        if args.json:
            print(document.dumps(collected), end="")
        else:
            terminal.show_table(collected, sys.stdout)
    return OK if complete or args.allow_partial else INCOMPLETE


def _write_unless_lossy(folder: Path | None, collected: Document, args: Namespace) -> bool:
    """Writes the files of a table, or reports why not; returns whether they were written.

    With `--allow-partial` it may replace one that has more numbers.

    Raises:
        LaunchError: The results folder cannot be made or written to.
    """
    if folder is None:
        reason = f"{OTHER_ROWS}; name --output"
    elif not args.allow_partial and (why := tables.loss_message(collected, folder)):
        reason = f"{why}; {markdown.ALLOW_LOSS}, --output DIR elsewhere"
    else:
        if not args.output:
            preflight.check_writable(folder)
        report_written(tables.write_table(collected, folder), as_json=False)
        return True
    print(f"not written: {reason}", file=sys.stderr)
    return False


def figures_command(args: Namespace) -> int:
    """Draws figures."""
    root = find_root()
    specs, overrides = split_overrides(args.specs)
    paths = [find_spec(name, root) for name in specs]
    drawn = [_draw(path, overrides, args, root / "results") for path in paths]
    # the gallery page is written again for every figure
    written = list(dict.fromkeys(file for files in drawn for file in files or []))
    if written or args.json:
        report_written(written, as_json=args.json)
    return INCOMPLETE if None in drawn else OK


def _draw(path: Path, overrides: list[str], args: Namespace, results: Path) -> list[Path] | None:
    """Draws one figure; returns the files, or None if no finished row has anything to draw."""
    figure, request = spec.load_figure(path, overrides)
    folder = figures.destination(request, results, args.output)
    picture = figures.picture(figure, request, args.seeds, results, num_images=args.images)
    if picture is None:
        reason = "none of its rows is done, or none that is has what it shows"
        print(f"{figure.name}: {reason}", file=sys.stderr)
        return None
    if folder is None:
        reason = "overrides make these other rows than the figure's; name --output"
        print(f"{figure.name}: {reason}", file=sys.stderr)
        return []
    if not args.output:
        preflight.check_writable(folder)
    return [*drawing.write_picture(picture, folder), gallery.write_gallery(folder)]


def verify_command(args: Namespace) -> int:
    """Compares committed tables with their runs."""
    if args.data and not args.evaluate:
        raise UserError(
            f"--data {args.data} says where --evaluate finds the images; add --evaluate, or leave"
            " --data out"
        )
    codes = [_verify_table(path, table, args) for path, table in _committed_tables(args.tables)]
    return FAILED if FAILED in codes else max(codes)


def _verify_table(path: Path, table: Table | None, args: Namespace) -> int:
    committed = tables.load_committed(path)
    reports = verify.verify(
        committed,
        args.results or path.parent,
        table,
        checkpoints=not args.without_checkpoints,
        more_checks=partial(_evaluate_again, args.data) if args.evaluate else None,
    )
    rendered = tables.compare_renderings(committed, path, _readme_beside(path))
    counts = report.count(reports)
    if args.json:
        print_json(report.as_json(committed, reports, rendered))
    else:
        print("\n".join([f"{path}: {committed['title']}", *report.lines(reports, rendered)]))
    if counts["differs"] or counts["foreign"] or not all(rendered.values()):
        return FAILED
    return INCOMPLETE if counts["gone"] else OK


def _evaluate_again(root: Path | None, name: str, seen: Observation) -> Iterator[Check]:
    """Evaluates the weights of a run, and reports on the terminal that it does."""
    print(f"evaluating {seen.run.name} ...", file=sys.stderr, flush=True)
    yield from reevaluate.evaluation_checks(name, seen, root=root)


def _readme_beside(path: Path) -> Path | None:
    """README.md of the project that a committed table lies in; None outside of a project."""
    try:
        readme = find_root(path.absolute().parent) / "README.md"
    except UserError:
        return None
    return readme if readme.is_file() else None


def render_command(args: Namespace) -> int:
    """Writes the files of committed tables again, from their JSON."""
    written = []
    for path, _ in _committed_tables(args.tables):
        committed = tables.load_committed(path)
        # beside the JSON and named after it, whatever name is in it
        tables.require_replaceable(committed, path)
        written += tables.write_table(committed, path.parent, stem=path.stem)
        if committed.get("figures") and (path.parent / "figures" / gallery.PAGE).is_file():
            written.append(gallery.write_gallery(path.parent / "figures"))
        if args.readme:
            markdown.update_readme(find_root(path.absolute().parent) / "README.md", committed)
    report_written(written, as_json=args.json)
    return OK


def _committed_tables(words: Sequence[str]) -> list[tuple[Path, Table | None]]:
    """The JSON of each named table, and its spec if there is one.

    Raises:
        SpecError: All mistakes in specs and overrides.
        UserError: A table has no JSON, or overrides make other rows than it has.
    """
    found = [(Path(word), _spec_of(Path(word))) for word in words if word.endswith(".json")]
    specs = [word for word in words if not word.endswith(".json")]
    if not specs:
        return found
    request, results = load_tables_request(specs)
    folder = tables.destination(request, results)
    if folder is None:
        raise UserError(
            f"{OTHER_ROWS}: `antioversmooth table` with these words and --output DIR writes"
            f" theirs, and `antioversmooth verify DIR/{request.tables[0].name}.json` compares it"
        )
    return [*found, *((_require_json(folder, table), table) for table in request.tables)]


def _require_json(folder: Path, table: Table) -> Path:
    """The path of a table's JSON.

    Raises:
        UserError: There is none; names the profiles that have one.
    """
    path = folder / f"{table.name}.json"
    others = [other.parent.name for other in sorted(folder.glob(f"*/{path.name}"))]
    if not path.is_file() and others:
        profiles = f"profile={', profile='.join(others)}"
        raise UserError(f"there is no {path}; of another profile there is: {profiles}")
    return path


def _spec_of(path: Path) -> Table | None:
    """The spec that a committed table was named after; None if there is none."""
    try:
        return spec.load_table(find_spec(path.stem, find_root(path.absolute().parent)))
    except UserError:
        return None


def export_command(args: Namespace) -> int:
    """Packs finished runs into a file."""
    runs, name = _runs_to_export(args)
    if args.allow_partial:
        for problem in filter(None, (run.invalid_result_reason() for run in runs)):
            print(f"left out: {problem}", file=sys.stderr)
        runs = [run for run in runs if not run.invalid_result_reason() and run.result() is not None]
    if not runs:
        reason = "none of these runs is done, and a bundle is made of results"
        raise UserError(f"{reason}; launch them to their end first")
    target = args.output or Path(f"{name}.tar")
    exported = bundle.export(runs, target, checkpoints=not args.without_checkpoints)
    if args.json:
        named = {"file": str(target), "runs": [str(run.dir) for run in runs]}
        print_json({**named, "passed_over": exported.passed_over})
    else:
        size = f"{target.stat().st_size / 2**20:,.1f} MiB"
        print(f"{target}: {counted(len(exported.runs), 'run')}, {size}")
    if exported.passed_over:
        names = and_more(exported.passed_over, 5)
        print(f"passed over {len(exported.passed_over)} files: {names}", file=sys.stderr)
    return OK


def _runs_to_export(args: Namespace) -> tuple[list[Run], str]:
    """The named runs, and a name for all of them together."""
    runs = load_runs(args.specs)
    if runs is not None:
        return runs, content.run_path(runs[0]).replace("/", "-") if len(runs) == 1 else "runs"
    request, results = load_request(args.specs)
    named = request.tables or request.experiments
    name = named[0].name if len(named) == 1 else "runs"
    return request.plan(args.seeds, results), f"{name}-{request.experiments[0].profile}"


def export_model_command(args: Namespace) -> int:
    """Writes the model of a finished run as a folder of the Hugging Face hub."""
    if not (args.run / "spec.yaml").is_file():
        raise UserError(f"{args.run} is no run directory; those of a row lie in runs/ROW/")
    shared = model_folder.export_model(
        Run.load(args.run),
        args.target,
        fold=args.fold,
        average=args.average,
        licence=args.license,
    )
    report_written(sorted(args.target.iterdir()), as_json=args.json)
    if not args.json:
        difference = (
            f"differ by at most {shared.difference:.1e} of the largest"
            if shared.folded
            else "are equal to the bit"
        )
        print(f"{args.target}: {shared.architecture}; its logits and the run's {difference}")
    return OK


def import_command(args: Namespace) -> int:
    """Unpacks the runs of bundles into the project's results."""
    results = find_root() / "results"
    imported = []
    for path in args.bundles:
        require_bundle(path)
    for path in args.bundles:
        for each in import_bundle(path, results):
            run = each.run
            facts = {"id": run.id, "dir": str(run.dir), "is_new": each.is_new}
            imported.append({**facts, "left_out": list(each.left_out)})
            if not args.json:
                verb = "put into" if each.is_new else "is already in"
                print(f"{run.name}: {verb} {run.dir}")
                if each.left_out:
                    print(f"  left out, neither JSON nor PNG: {', '.join(each.left_out)}")
    if args.json:
        print_json(imported)
    return OK
