"""Measures speed and memory, and writes bench.json, bench.md and the chart."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from antioversmooth import files
from antioversmooth.cli import parsers
from antioversmooth.cli.main import run_main
from antioversmooth.project import find_root
from benchmarks.arguments import count, device, writable
from benchmarks.markdown_report import markdown
from benchmarks.ratio_chart import draw
from benchmarks.size import size_costs
from benchmarks.suite import (
    QUICK,
    Effort,
    machine,
    measure,
    measure_compiled,
    measure_host,
    measure_input,
    measure_methods,
)

_PARTS: dict[str, Callable[[Path, Effort], dict[str, Any]]] = {
    "size": lambda root, effort: size_costs(root, effort.size),
    "host": measure_host,
    "compiled": measure_compiled,
    "methods": measure_methods,
    "pipeline": measure_input,
}
"""Parts that `--only` measures anew."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures as the arguments say; returns the exit code."""
    parser = _parser()
    args = parser.parse(arguments)
    return run_main(parser.prog, lambda: _measure(args))


def _parser() -> parsers.Parser:
    parser = parsers.Parser("python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="tiny models, two rounds: a test of the benchmarks"
    )
    parser.add_argument(
        "--rounds", type=count, metavar="N", help="rounds of whole models; default: 8"
    )
    parser.add_argument(
        "--augmentations",
        type=count,
        metavar="N",
        help="augmented views that are checked; default: 100000",
    )
    parser.add_argument(
        "--device",
        type=device,
        default=torch.device("cpu"),
        help="device of the models; default: cpu",
    )
    parser.add_argument(
        "--only",
        choices=[*_PARTS],
        help="measure this part anew; the others stay as they were",
    )
    parser.add_argument(
        "--output", type=parsers.folder, metavar="DIR", help="folder to write to; default: results/"
    )
    return parser


def _measure(args: Namespace) -> int:
    root = find_root()
    changes = {key: getattr(args, key) for key in ("rounds", "augmentations") if getattr(args, key)}
    effort = replace(QUICK if args.quick else Effort(), **changes)
    folder = writable(args.output or root / "results")
    if args.only:
        before = files.read_mapping(folder / "bench.json")
        torch.set_num_threads(1)
        again = {**before.get("again", {}), args.only: machine(args.device)}
        measured = {**before, args.only: _PARTS[args.only](root, effort), "again": again}
    else:
        measured = measure(root, effort, args.device)
    files.write_json(folder / "bench.json", measured)
    files.write_atomic(folder / "bench.md", markdown(measured))
    written = [folder / "bench.json", folder / "bench.md", draw(measured, folder)]
    print(f"written: {', '.join(map(str, written))}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
