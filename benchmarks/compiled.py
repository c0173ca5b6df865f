"""Compilation of a training step: its seconds, its graphs, and what is compiled again later."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch._dynamo.utils import counters

LATER_STEPS = 3


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
