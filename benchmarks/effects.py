"""Effects of methods besides accuracy: training loss, similarity, energy, size of the scales.

    python -m benchmarks.effects study profile=study --seeds 0,1,2,3,4 --page docs/study.md

writes `results/study/study.effects.json`, and puts the table into the page, between two comments
`<!-- study:begin -->` and `<!-- study:end -->`. Seeds that are not done are left out, unless the
file has them already: then nothing is written.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from antioversmooth import files
from antioversmooth.cli.main import run_main
from antioversmooth.cli.parsers import seeds as to_seeds
from antioversmooth.cli.requests import load_tables_request
from antioversmooth.errors import UserError, and_more
from antioversmooth.reporting.figures import analysed
from antioversmooth.reporting.rendering.markdown import Block
from antioversmooth.reporting.table.columns import signed
from antioversmooth.reporting.table.differences import Difference, difference
from antioversmooth.runs import Run
from antioversmooth.runs.metrics import VAL_TOP1
from antioversmooth.runs.result import last_epoch_loss
from antioversmooth.spec import Request

LOSS, TOKENS, ENERGY = "training loss", "similarity of tokens", "energy, HC / DC"
MAPS, ALL_MAPS = "similarity of maps", "similarity of maps, all layers"
SCALES, TOP1 = "mean size of scales", "top-1 (%)"
DIGITS = {LOSS: 3, TOKENS: 3, ENERGY: 2, MAPS: 3, ALL_MAPS: 3, TOP1: 1}

Measured = dict[str, Any]
"""Of one run: a number for each name of DIGITS, and the sizes of its scales by symbol."""
Row = dict[str, Any]
"""Group, label and baseline of a row of the table, and what was measured, by seed."""


def measured(run: Run) -> Measured:
    """The numbers of a finished run: those of the last layer, and of maps the mean over layers."""
    analysis = analysed(run)
    values, last = analysis.measures, analysis.depth
    maps = values["attention/similarity"]
    return {
        LOSS: last_epoch_loss(run.metrics(), run.experiment),
        TOKENS: values["tokens/similarity"][last],
        ENERGY: values["tokens/hc_energy"][last] / values["tokens/dc_energy"][last],
        MAPS: statistics.mean(maps[last]),
        ALL_MAPS: statistics.mean(statistics.mean(heads) for heads in maps.values()),
        SCALES: {
            name.removeprefix("scales/"): statistics.mean(_sizes(by_layer.values()))
            for name, by_layer in sorted(values.items())
            if name.startswith("scales/")
        },
        TOP1: (run.result() or {})["metrics"][VAL_TOP1],
    }


def _sizes(values: Iterable[Any]) -> Iterator[float]:
    for value in values:
        if isinstance(value, list):
            yield from _sizes(value)
        else:
            yield abs(value)


def collect(request: Request, seeds: Sequence[int], results: Path) -> dict[str, Row]:
    """The measured rows of the table, by their names."""
    experiments = {one.row_name: one for one in request.experiments}
    folder = request.results(results)
    found = {}
    for row in request.tables[0].rows:
        runs = request.plan_row(experiments[row.row_name], seeds, folder)
        by_seed = {str(run.seed): measured(run) for run in runs if run.result() is not None}
        if by_seed:
            about = {"group": row.group, "label": row.label, "baseline": row.baseline}
            found[row.row_name] = {**about, "seeds": by_seed}
    return found


def markdown(rows: Mapping[str, Row]) -> str:
    """A Markdown table: means over seeds, and differences from the baseline's same seeds."""
    lines = [
        ["setting", "model", "seeds", *DIGITS, SCALES],
        ["---", "---", *["---:"] * (1 + len(DIGITS)), "---"],
    ]
    group = ""
    for row in rows.values():
        baseline = rows.get(row["baseline"] or "", {"seeds": {}})
        shown = "" if row["group"] == group else row["group"]
        lines.append([shown, *_cells(row["label"], row["seeds"], baseline["seeds"])])
        group = row["group"]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cells(
    label: str, seeds: Mapping[str, Measured], baseline: Mapping[str, Measured]
) -> Iterator[str]:
    yield label
    yield ", ".join(seeds)
    for name, digits in DIGITS.items():
        ours, theirs = _by_seed(seeds, name), _by_seed(baseline, name)
        cell = f"{statistics.mean(ours.values()):.{digits}f}"
        if ours.keys() & theirs.keys() and (found := difference(ours, theirs)):
            cell += f"; {_described(found, digits)}"
        yield cell
    sizes = [one[SCALES] for one in seeds.values()]
    yield ", ".join(
        f"{name} {statistics.mean(one[name] for one in sizes):.2f}" for name in sizes[0]
    )


def _by_seed(seeds: Mapping[str, Measured], name: str) -> dict[int, float]:
    return {int(seed): one[name] for seed, one in seeds.items()}


def _described(found: Difference, digits: int) -> str:
    """A difference with its interval; bold where 0 lies outside of it."""
    mean, interval = signed(found.mean, digits), found.interval
    if interval is None:
        return mean
    text = f"{mean} [{signed(interval.low, digits)}, {signed(interval.high, digits)}]"
    return text if interval.contains_zero else f"**{text}**"


def main(words: Sequence[str] | None = None) -> int:
    """Measures the runs of a table, and writes both files; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.effects")
    parser.add_argument("words", nargs="+", metavar="TABLE|KEY=VALUE")
    parser.add_argument("--seeds", type=to_seeds, default=[0])
    parser.add_argument("--page", type=Path, help="a Markdown page with the two comments")
    return run_main(parser.prog, lambda: _write(parser.parse_args(words)))


def _write(args: argparse.Namespace) -> int:
    request, results = load_tables_request(args.words)
    name = request.tables[0].name
    rows = collect(request, args.seeds, results)
    target = request.results(results) / f"{name}.effects.json"
    require_all_measured(json.loads(target.read_text()) if target.exists() else {}, rows, target)
    table = markdown(rows)
    if args.page:
        files.write_atomic(args.page, with_table(args.page.read_text(), name, table))
    files.write_json(target, rows)
    print(table)
    return 0


def require_all_measured(before: Mapping[str, Row], rows: Mapping[str, Row], source: Path) -> None:
    """Refuses to replace measured runs by fewer ones.

    Args:
        before: The rows in the file.
        rows: The rows that are done here.
        source: The file.

    Raises:
        UserError: The file has a row or a seed that is not done here, or nothing is done.
    """
    absent = [
        f"{name} seed {seed}"
        for name, row in before.items()
        for seed in row["seeds"].keys() - rows.get(name, {"seeds": {}})["seeds"].keys()
    ]
    if absent:
        raise UserError(
            f"{source} has runs that are not done here: {and_more(sorted(absent), 3)}; train them"
            " or delete the file"
        )
    if not rows:
        raise UserError("no run of this table is done: there is nothing to measure")


def with_table(page: str, name: str, table: str) -> str:
    """The text of a page with the table between its two comments.

    Raises:
        UserError: The page does not have them.
    """
    block = Block.find(page, name)
    if block is None:
        raise UserError(f"the page needs <!-- {name}:begin --> and, after it, <!-- {name}:end -->")
    return f"{block.before}<!-- {name}:begin -->\n{table}{block.after}"


if __name__ == "__main__":
    sys.exit(main())
