"""Measures this project beside other programs; writes peers.json, peers.md and peers.svg."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from antioversmooth import files
from antioversmooth.cli import parsers
from antioversmooth.cli.main import run_main
from antioversmooth.project import find_root
from benchmarks.arguments import writable
from benchmarks.peers.environment import TOOLS, install
from benchmarks.peers.report import draw, markdown
from benchmarks.peers.training import CASE_LIMIT_S, LOAD, QUICK_LOAD, STARTS_LIMIT_S, compare
from benchmarks.peers.waits import ROUNDS_LIMIT_S, wait_times
from benchmarks.suite import machine

WAIT_ROUNDS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Installs the tools where that is still to do, and measures; returns the exit code."""
    parser = parsers.Parser("python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny images, one round: a test")
    parser.add_argument("--output", type=parsers.folder, metavar="DIR", help="default: results/")
    args = parser.parse(arguments)
    return run_main(parser.prog, lambda: _measure(args))


def _measure(args: Namespace) -> int:
    root = find_root()
    folder, environments = writable(args.output or root / "results"), root / "build" / "peers"
    load, rounds = (QUICK_LOAD, 1) if args.quick else (LOAD, WAIT_ROUNDS)
    measured: dict[str, Any] = {
        "machine": machine(torch.device("cpu")),
        "tools": [package for tool in TOOLS for package in tool.packages],
        "missing": [*(case.name for case in load.cases), "first steps", "commands"],
    }

    def write(part: str, found: dict[str, Any]) -> list[Path]:
        """Writes what is measured until now, and which parts are missing."""
        measured[part] = found
        del measured["missing"][0]
        files.write_json(folder / "peers.json", measured)
        files.write_atomic(folder / "peers.md", markdown(measured))
        return [folder / "peers.json", folder / "peers.md", draw(measured, folder)]

    _say(f"{environments} gets what it lacks (180 MB in all): {', '.join(measured['tools'])}")
    absent = install(environments)
    for tool, reason in absent.items():
        _say(f"{tool} {reason}")
    minutes = (CASE_LIMIT_S * len(load.cases) + STARTS_LIMIT_S + 2 * ROUNDS_LIMIT_S) / 60
    parts = ", ".join(measured["missing"])
    _say(f"measuring {parts}: up to {minutes:.0f} minutes; {folder}/peers.* gets each at its end")
    for found in compare(root, load):
        write("training", found)
    written = write("waits", wait_times(root, environments, absent, rounds=rounds))
    _say(f"written: {', '.join(map(str, written))}")
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
