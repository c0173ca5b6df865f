"""A training step whose blocks are compiled by inductor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from antioversmooth.config import Compiler
from benchmarks.compiled import compilation
from benchmarks.gpu.machine import the_device
from benchmarks.gpu.parts import Finding
from benchmarks.gpu.steps import REHEARSAL, Effort, load, measure
from benchmarks.host import OurStep


def compile_step(root: Path, row: str, method: str) -> Iterator[Finding]:
    """Yields how a row is compiled, and how fast it is then."""
    device = the_device()
    on_gpu = device.type == "cuda"
    effort = Effort() if on_gpu else REHEARSAL
    torch.set_num_threads(1)
    config = load(root, row, method, effort)
    compiler = Compiler.inductor if on_gpu else Compiler.aot_eager
    step = OurStep(config, ranks=1, device=device, compiler=compiler)
    yield "compilation", compilation(step)
    yield "step", measure(step, effort, device)
