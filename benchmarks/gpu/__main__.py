"""Checks a machine with a GPU, and writes results/gpu/<device>.json and .md.

Without a GPU it is a rehearsal with tiny models, and writes nothing without --output.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from antioversmooth import files
from antioversmooth.project import find_root
from benchmarks.gpu import report
from benchmarks.gpu.parts import PARTS, run_all


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the parts, prints the tables and writes them; returns 0 if all is as it should be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: results/gpu/")
    parser.add_argument(
        "--only", nargs="+", choices=[*PARTS], default=[*PARTS], help="default: all parts"
    )
    args = parser.parse_args(arguments)
    root = find_root()
    measured = run_all(root, args.only)
    text = report.markdown(measured)
    print(text)
    card = report.card(measured)
    folder = args.output or (root / "results" / "gpu" if card else None)
    if folder is not None:
        name = re.sub(r"[^a-z0-9]+", "-", (card or "rehearsal").lower()).strip("-")
        files.write_json(folder / f"{name}.json", measured)
        files.write_atomic(folder / f"{name}.md", text)
    problems = report.problems(measured)
    for problem in problems:
        print(f"problem: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
