"""Trains rows and tables of experiments: `antioversmooth launch` in the folder of this file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from antioversmooth.cli.main import launch

PROJECT = Path(__file__).resolve().parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the launch; returns the exit code."""
    return launch(arguments, project=PROJECT)


if __name__ == "__main__":
    sys.exit(main())
