"""Trains a run as its job does, and writes its seconds by what they were spent on.

Run as `python -m benchmarks.peers.shares RUN_DIR SECONDS.json`.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from antioversmooth.runs import journal
from antioversmooth.training.evaluator import Evaluator
from antioversmooth.training.process import run_attempt
from antioversmooth.training.run.checkpoint import CheckpointWriter
from antioversmooth.training.run.loop import Trainer

ALL, BESIDE = "all epochs", "writing of checkpoints, beside the training"
PARTS = ("evaluation", "checkpoint", "journal")


def main() -> int:
    """Trains, and writes the seconds by the clock; returns the exit code of the training."""
    directory, target = sys.argv[1:]
    seconds: defaultdict[str, float] = defaultdict(float)
    evaluation, checkpoint, journaling = PARTS
    _time(Trainer, "fit", ALL, seconds)
    _time(Evaluator, "each", evaluation, seconds)
    _time(Trainer, "_save", checkpoint, seconds)
    _time(journal, "append", journaling, seconds)
    # in a thread of its own
    _time(CheckpointWriter, "_write", BESIDE, seconds)
    code = run_attempt(Path(directory))
    Path(target).write_text(json.dumps(seconds))
    return code


def _time(owner: Any, name: str, part: str, seconds: defaultdict[str, float]) -> None:
    """Adds the seconds of each call of a function to its part."""
    function: Callable[..., Any] = getattr(owner, name)

    def timed(*args: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **options)
        finally:
            seconds[part] += time.perf_counter() - start

    setattr(owner, name, timed)


if __name__ == "__main__":
    sys.exit(main())
