"""Peak memory of a call: on the device as its allocator counts it, on a CPU as the kernel does."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")


def peak_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """Bytes that a call needs beyond what was there before it; None where the system does not count
    them.

    It is called once before, so that what is allocated once and for all is not counted.
    """
    call()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    return _resident(call) if _STATUS.exists() else None


def _resident(call: Callable[[], object]) -> int:
    # freed memory goes back to the system, or the call would seem to need none
    ctypes.CDLL(None).malloc_trim(0)
    # the peak so far is forgotten
    Path("/proc/self/clear_refs").write_text("5")
    before = _kibibytes("VmRSS")
    call()
    return 1024 * (_kibibytes("VmHWM") - before)


def _kibibytes(field: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1])
