"""`python -m benchmarks`: measures, and writes bench.json, bench.md and the chart."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from antioversmooth import files
from antioversmooth.project import find_root
from benchmarks.chart import draw
from benchmarks.measure import QUICK, Effort, measure, measure_input
from benchmarks.report import input_markdown, markdown


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures as the arguments say; 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="tiny models, two rounds: whether it works at all"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="of whole models; default: 8")
    parser.add_argument(
        "--augmentations",
        type=int,
        metavar="N",
        help="views that must come out whole; default: 100000",
    )
    parser.add_argument(
        "--device",
        type=torch.device,
        default=torch.device("cpu"),
        help="of the models; default: cpu",
    )
    parser.add_argument(
        "--input", action="store_true", help="only the input pipelines: a table, nothing is written"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: results/")
    given = parser.parse_args(arguments)
    root = find_root()
    folder = given.output or root / "results"
    asked = {key: getattr(given, key) for key in ("rounds", "augmentations") if getattr(given, key)}
    effort = replace(QUICK if given.quick else Effort(), **asked)
    if given.input:
        print(input_markdown(measure_input(root, effort)))
        return 0
    measured = measure(root, effort, given.device)
    files.write_json(folder / "bench.json", measured)
    files.write_atomic(folder / "bench.md", markdown(measured))
    written = [folder / "bench.json", folder / "bench.md", *draw(measured, folder)]
    print(f"written: {', '.join(map(str, written))}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
