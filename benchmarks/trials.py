"""Measures of the runs of a table besides accuracy: training loss, similarity, size of the scales.

    python -m benchmarks.trials mini_trials profile=mini --seeds 0,1,2 --page docs/mini.md

writes `results/mini/mini_trials.measured.json`, and puts the table into the page, between two
comments `<!-- mini_trials:begin -->` and `<!-- mini_trials:end -->`. Seeds that are not done are
left out.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from antioversmooth import files
from antioversmooth.cli.parsers import seeds as to_seeds
from antioversmooth.cli.requests import load_tables_request
from antioversmooth.errors import UserError
from antioversmooth.reporting.figures import analysed
from antioversmooth.reporting.rendering.markdown import Block
from antioversmooth.reporting.table.columns import signed
from antioversmooth.runs import Run
from antioversmooth.runs.metrics import VAL_TOP1
from antioversmooth.runs.result import last_epoch_loss
from antioversmooth.spec import Request

LOSS, TOKENS, MAPS = "training loss", "similarity of tokens", "similarity of attention maps"
SCALES, TOP1 = "mean size of scales", "top-1 (%)"
DIGITS = {LOSS: 3, TOKENS: 3, MAPS: 3, TOP1: 1}

Measured = dict[str, Any]
"""Of one run: a number for each name of DIGITS, and the sizes of its scales by symbol."""
Row = dict[str, Any]
"""Group, label and baseline of a row of the table, and what was measured, by seed."""


def measured(run: Run) -> Measured:
    """The numbers of a finished run; similarities are those of the last layer."""
    analysis = analysed(run)
    values = analysis.measures
    return {
        LOSS: last_epoch_loss(run.metrics(), run.experiment),
        TOKENS: values["tokens/similarity"][analysis.depth],
        MAPS: statistics.mean(values["attention/similarity"][analysis.depth]),
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
    """A Markdown table: means over seeds, and mean differences from the baseline's same seeds."""
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
        mean = statistics.mean(one[name] for one in seeds.values())
        pairs = [
            one[name] - baseline[seed][name] for seed, one in seeds.items() if seed in baseline
        ]
        difference = f" ({signed(statistics.mean(pairs), digits)})" if pairs else ""
        yield f"{mean:.{digits}f}{difference}"
    sizes = [one[SCALES] for one in seeds.values()]
    yield ", ".join(
        f"{name} {statistics.mean(one[name] for one in sizes):.2f}" for name in sizes[0]
    )


def main(words: Sequence[str] | None = None) -> None:
    """Measures the runs of a table, and writes both files."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trials")
    parser.add_argument("words", nargs="+", metavar="TABLE|KEY=VALUE")
    parser.add_argument("--seeds", type=to_seeds, default=[0])
    parser.add_argument("--page", type=Path, help="a Markdown page with the two comments")
    args = parser.parse_args(words)
    request, results = load_tables_request(args.words)
    rows = collect(request, args.seeds, results)
    name = request.tables[0].name
    files.write_json(request.results(results) / f"{name}.measured.json", rows)
    if args.page:
        files.write_atomic(args.page, with_table(args.page.read_text(), name, markdown(rows)))
    print(markdown(rows))


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
    main()
