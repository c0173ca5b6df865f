"""Training steps whose blocks are compiled by inductor, launched one by one and as CUDA graphs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch._dynamo.utils import counters
from torch._inductor.cudagraph_trees import get_manager

from antioversmooth.config import Compiler
from benchmarks.compiled import compilation, usable_compiler
from benchmarks.gpu.machine import the_device
from benchmarks.gpu.parts import Finding
from benchmarks.gpu.steps import REHEARSAL, Effort, load, measure
from benchmarks.host import OurStep


def compile_step(root: Path, row: str, method: str) -> Iterator[Finding]:
    """Yields for each way to compile a row how it is compiled, and then how fast it is, too."""
    device = the_device()
    on_gpu = device.type == "cuda"
    effort = Effort() if on_gpu else REHEARSAL
    torch.set_num_threads(1)
    config = load(root, row, method, effort)
    for compiler in _compilers(on_gpu):
        # of the images
        torch.manual_seed(0)
        step = OurStep(config, ranks=1, device=device, compiler=compiler)
        found: dict[str, Any] = {"compilation": compilation(step)}
        yield compiler.value, found
        first = cuda_graphs()
        found["step"] = measure(step, effort, device)
        # after the same steps, however they are compiled
        found["loss"] = float(step())
        if on_gpu and compiler is Compiler.reduce_overhead:
            found["cuda_graphs"] = {**first, "again": cuda_graphs()["recorded"] - first["recorded"]}
        yield compiler.value, found
        # its memory is free for the next one
        del step


def _compilers(on_gpu: bool) -> Iterator[Compiler]:
    yield Compiler.inductor if on_gpu else Compiler.aot_eager
    if on_gpu or usable_compiler().generates_code:
        yield Compiler.reduce_overhead


def cuda_graphs() -> dict[str, int]:
    """Number of CUDA graphs that are recorded, and of those that torch refused to record."""
    manager = get_manager(0, create_if_none_exists=False)
    roots = [] if manager is None else manager.get_roots()
    return {
        "recorded": sum(1 + root.num_descendants() for root in roots),
        "refused": counters["inductor"]["cudagraph_skips"],
    }
