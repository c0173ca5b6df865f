"""Measures this project beside other programs; writes peers.json, peers.md and peers.svg."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from antioversmooth import files
from antioversmooth.project import find_root
from benchmarks.peers.environment import TOOLS, install
from benchmarks.peers.report import draw, markdown
from benchmarks.peers.training import LOAD, QUICK_LOAD, compare
from benchmarks.peers.waits import wait_times
from benchmarks.suite import machine

WAIT_ROUNDS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Installs the tools where that is still to do, and measures; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny images, one round: a test")
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: results/")
    args = parser.parse_args(arguments)
    root = find_root()
    folder, environments = args.output or root / "results", root / "build" / "peers"
    missing = install(environments)
    for tool, reason in missing.items():
        print(f"{tool} {reason}", file=sys.stderr)
    load, rounds = (QUICK_LOAD, 1) if args.quick else (LOAD, WAIT_ROUNDS)
    measured = {
        "machine": machine(torch.device("cpu")),
        "tools": [package for tool in TOOLS for package in tool.packages],
        "training": compare(root, load),
        "waits": wait_times(root, environments, missing, rounds=rounds),
    }
    files.write_json(folder / "peers.json", measured)
    files.write_atomic(folder / "peers.md", markdown(measured))
    written = [folder / "peers.json", folder / "peers.md", draw(measured, folder)]
    print(f"written: {', '.join(map(str, written))}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
