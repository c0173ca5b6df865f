"""Training steps whose blocks are compiled: how long that takes, what is compiled again later, and
the host's time of a step then."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch._dynamo.utils import counters
from torch._inductor.utils import fresh_cache

from antioversmooth.config import Compiler
from antioversmooth.errors import LaunchError
from antioversmooth.runs.machine import check_compiler
from benchmarks.host import STOCK, OurStep, StockStep, tiny_rows
from benchmarks.timing import cpu_clock, interleaved

LATER_STEPS = 3
COMPILED = "compiled"


def compiled_steps(
    root: Path, *, rounds: int, overrides: tuple[str, ...] = (), compiler: Compiler | None = None
) -> dict[str, Any]:
    """For each row of `host`: its compilation, and CPU seconds of a step beside timm's uncompiled.

    Args:
        compiler: None: inductor. Where it has no C++ compiler, aot_eager, and no step is timed.
    """
    compiler = compiler or usable_compiler()
    found = {}
    for name, row in tiny_rows(root, overrides).items():
        # a run begins without what other models have left
        with fresh_cache():
            step = OurStep(row, ranks=1, compiler=compiler)
            found[name] = {"backend": compiler.value, **compilation(step)}
            if compiler is Compiler.inductor:
                steps: dict[str, Callable[[], object]] = {STOCK: StockStep(row), COMPILED: step}
                found[name]["step_s"] = interleaved(steps, cpu_clock, rounds=rounds)
    return found


def usable_compiler() -> Compiler:
    """inductor, or where it has no C++ compiler, aot_eager, which traces and generates nothing."""
    try:
        check_compiler(Compiler.inductor, on_gpu=False)
    except LaunchError:
        return Compiler.aot_eager
    return Compiler.inductor


def compilation(step: Callable[[], object]) -> dict[str, Any]:
    """Takes the first steps of a model that nobody has compiled before.

    Returns:
        `first_s` of the first step, by the clock; `graphs`, functions that it compiled; `again`,
        those that later steps compiled; `breaks`, of graphs.
    """
    torch.compiler.reset()
    counters.clear()
    start = time.perf_counter()
    step()
    seconds, graphs = time.perf_counter() - start, counters["stats"]["unique_graphs"]
    for _ in range(LATER_STEPS):
        step()
    return {
        "first_s": seconds,
        "graphs": graphs,
        "again": counters["stats"]["unique_graphs"] - graphs,
        "breaks": sum(counters["graph_break"].values()),
    }
