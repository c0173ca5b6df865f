"""Parts of the check, each in a process of its own with a time limit.

A part that fails, hangs or breaks the device loses nothing of the others, and no number that it had
found before.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from antioversmooth import files

Finding = tuple[str, Any]
"""Name and JSON value of a number or table that a part has found."""
Function = Callable[..., Iterator[Finding]]


class Part(NamedTuple):
    """A part of the check: a generator function, which is given the project's folder."""

    module: str
    """Within `benchmarks.gpu`; imported in the process of the part."""
    function: str
    limit_s: float
    """Seconds after which its process is ended."""
    arguments: tuple[str, ...] = ()

    def load(self) -> Function:
        """The function."""
        found: Function = getattr(importlib.import_module(self.module), self.function)
        return found


BACKBONES = {"DeiT-S24": "deit_s24", "CaiT-S24": "cait_s24_scratch", "Swin-S": "swin_s"}
"""Backbones whose training steps are timed, each with its row."""
TIMM = "timm"
"""The loop with timm's plain model."""
TOLERANCE = 1e-4
"""Of the loss of one rank and of two, and of the norm of the gradient, relative; they differ by the
order of sums."""
COMPILED_TOLERANCE = 1e-2
"""Of the loss after the same steps with and without CUDA graphs, relative; in half precision."""
PRELOADED = ["benchmarks.gpu.steps"]
"""Imported once for all parts, with torch; no part shares a CUDA context with another."""
PARTS = {
    "machine": Part("benchmarks.gpu.machine", "describe", 40),
    "tests": Part("benchmarks.gpu.tests", "run_tests", 55),
    "resume": Part("benchmarks.gpu.resume", "compare_resumed", 80),
    "ranks": Part("benchmarks.gpu.ranks", "compare_ranks", 35),
    **{
        backbone: Part("benchmarks.gpu.steps", "compare_loops", 65, (row,))
        for backbone, row in BACKBONES.items()
    },
    "compile": Part("benchmarks.gpu.compilation", "compile_step", 75, ("deit_s24", "attnscale")),
}
"""In the order in which they run; their limits are eight minutes together."""
REHEARSAL_FACTOR = 3
"""Of the limits without a GPU: a busy CPU may need longer."""


def run_all(root: Path, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """After each part the findings of all until then, and how they ended: the JSON file's content.

    The machine is always described.

    Args:
        root: The project's folder, with `experiments/` and `tests/`.
        names: Of the parts.
    """
    parts: dict[str, Any] = {}
    for name, part in PARTS.items():
        if name in names or name == "machine":
            on_cpu = parts and not parts["machine"]["found"].get("gpu")
            part = part._replace(limit_s=part.limit_s * (REHEARSAL_FACTOR if on_cpu else 1))
            print(f"{name}: at most {part.limit_s:.0f} s", file=sys.stderr, flush=True)
            parts[name] = run_part(part, root)
            yield parts


def run_part(part: Part, root: Path) -> dict[str, Any]:
    """Runs a part until its end or its limit.

    Returns:
        `state` (done, failed, or out of time), `seconds`, `limit_s`, `found`: all that it had
        found until then, and `message`: the last lines of its output where it failed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory() as folder:
        found, output = Path(folder) / "found.json", Path(folder) / "output"
        start = time.monotonic()
        process = context.Process(target=_in_process, args=(part, root, found, output))
        process.start()
        # the first start waits for the server's imports
        try:
            process.join(max(0.0, part.limit_s - (time.monotonic() - start)))
            ended = "failed" if process.exitcode else "done"
            state = "out of time" if process.is_alive() else ended
        finally:
            # Ctrl-C does not reach it: its group is its own
            _end_group(process)
        written = output.read_text(errors="replace") if output.is_file() else ""
        return {
            "state": state,
            "seconds": round(time.monotonic() - start, 1),
            "limit_s": part.limit_s,
            "found": files.read_json(found) if found.is_file() else {},
            "message": "" if state == "done" else "\n".join(written.splitlines()[-15:]),
        }


def _in_process(part: Part, root: Path, found: Path, output: Path) -> None:
    """Runs a part, and writes each finding as soon as it is there."""
    # a group of its own, with all processes that the part starts
    os.setpgrp()
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(root)
    findings: dict[str, Any] = {}
    for name, value in part.load()(root, *part.arguments):
        findings[name] = value
        files.write_json(found, findings)


def _end_group(process: BaseProcess) -> None:
    """Ends the process of a part and all that it started."""
    assert process.pid is not None
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()
