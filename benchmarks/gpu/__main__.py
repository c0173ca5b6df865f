"""Checks a machine with a GPU, and writes results/gpu/<device>.json and .md.

Without a GPU it is a rehearsal with tiny models, and writes nothing without --output.
"""

from __future__ import annotations

import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from antioversmooth import files
from antioversmooth.cli import parsers
from antioversmooth.cli.main import run_main
from antioversmooth.project import find_root
from benchmarks.arguments import writable
from benchmarks.gpu import report
from benchmarks.gpu.parts import PARTS, run_all


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the parts, prints the tables and writes them; returns 0 if all is as it should be."""
    parser = parsers.Parser("python -m benchmarks.gpu", description=__doc__)
    parser.add_argument(
        "--output", type=parsers.folder, metavar="DIR", help="default: results/gpu/"
    )
    parser.add_argument(
        "--only", nargs="+", choices=[*PARTS], default=[*PARTS], help="default: all parts"
    )
    args = parser.parse(arguments)
    return run_main(parser.prog, lambda: _check(args))


def _check(args: Namespace) -> int:
    root = find_root()
    named = args.output and writable(args.output)
    measured: dict[str, Any] = {}
    for measured in run_all(root, args.only):
        card = report.card(measured)
        if folder := named or (writable(root / "results" / "gpu") if card else None):
            name = re.sub(r"[^a-z0-9]+", "-", (card or "rehearsal").lower()).strip("-")
            files.write_json(folder / f"{name}.json", measured)
            files.write_atomic(folder / f"{name}.md", report.markdown(measured))
    print(report.markdown(measured))
    if not folder:
        print("no GPU: a rehearsal, which writes no file without --output", file=sys.stderr)
    problems = report.problems(measured)
    for problem in problems:
        print(f"problem: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
