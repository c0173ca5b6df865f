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

from antioversmooth.config import Compiler, Experiment
from antioversmooth.errors import LaunchError
from antioversmooth.runs.machine import check_compiler
from benchmarks.host import DDP, STOCK, OurStep, StockStep, group_of_one, tiny_rows
from benchmarks.timing import cpu_clock, interleaved

LATER_STEPS = 3
COMPILED = "compiled"
RANKS = {"": 1, DDP: 2}
"""As the learner sees them: alone, and wrapped by DDP."""


def compiled_steps(
    root: Path, *, rounds: int, overrides: tuple[str, ...] = (), compiler: Compiler | None = None
) -> dict[str, Any]:
    """For each row of `host`, alone and wrapped by DDP: its compilation, and CPU seconds of a step
    beside timm's uncompiled.

    Wrapped, it finds the code of before: its first step says that DDP changes no graph.

    Args:
        compiler: None: inductor. Where it has no C++ compiler, aot_eager, and no step is timed.
    """
    compiler = compiler or usable_compiler()
    found = {}
    with group_of_one():
        for name, row in tiny_rows(root, overrides).items():
            # a run begins without what other models have left
            with fresh_cache():
                for wrapped, ranks in RANKS.items():
                    found[f"{name}{wrapped}"] = _compiled_step(row, ranks, compiler, rounds)
    return found


def _compiled_step(row: Experiment, ranks: int, compiler: Compiler, rounds: int) -> dict[str, Any]:
    step = OurStep(row, ranks=ranks, compiler=compiler)
    found = {"backend": compiler.value, **compilation(step)}
    if compiler.generates_code:
        stock = StockStep(row, wrap=ranks > 1)
        steps: dict[str, Callable[[], object]] = {STOCK: stock, COMPILED: step}
        found["step_s"] = interleaved(steps, cpu_clock, rounds=rounds)
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
