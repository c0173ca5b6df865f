"""The machine of a check: its card and driver, versions, and the commit of the code."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks import suite
from benchmarks.gpu.parts import Finding


def the_device() -> torch.device:
    """The first GPU, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def describe(root: Path) -> Iterator[Finding]:
    """All that the numbers depend on; `gpu` is None in a rehearsal."""
    device = the_device()
    on_gpu = device.type == "cuda"
    yield "gpu", torch.cuda.get_device_name(device) if on_gpu else None
    yield from suite.machine(device).items()
    yield "commit", _output(root, "git", "describe", "--always", "--dirty", "--abbrev=12") or "-"
    yield "cuda", torch.version.cuda if on_gpu else None
    if on_gpu:
        driver = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
        yield "driver", _output(root, *driver).partition("\n")[0] or "-"
        yield "gpu_memory_bytes", torch.cuda.get_device_properties(device).total_memory


def _output(root: Path, *command: str) -> str:
    """Output of a program; empty if there is no such program, or it fails."""
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
