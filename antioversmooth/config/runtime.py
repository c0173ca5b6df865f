"""How a run runs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from antioversmooth.config.checks import rules


class Compiler(Enum):
    """Backend of torch.compile; aot_eager traces as inductor does, and generates no code."""

    none = "none"
    inductor = "inductor"
    aot_eager = "aot_eager"


@dataclass
class RuntimeConfig:
    """How a run runs; nothing here changes what is computed."""

    workers: int = -1
    """Data-loading processes per device; -1: from the CPUs that the job was given."""
    threads: int = 0
    """Threads of a process on the CPU; 0: one for local CPU runs, else what the scheduler gave."""
    device_batch: int = 0
    """Largest number of samples in one forward pass on a device; 0: global_batch / world size in
    one pass."""
    eval_batch: int = 250
    """Samples in one evaluation pass on a device."""
    gradient_checkpointing: bool = False
    """Keep the input of each block only, and compute the rest again in the backward pass: less
    memory, same numbers."""
    compile: Compiler = Compiler.none
    """Compile the model for training: faster on a GPU after a minute at each start. The same
    computation in other kernels, so numbers move by rounding, as on another device; evaluation
    stays as it is."""
    log_every: int = 50
    """Steps between two train records in the journal."""
    checkpoint_every_s: float = 300.0
    """Seconds between two checkpoints within an epoch; the end of an epoch always saves."""
    max_steps: int = 0
    """End the attempt after this many steps of the run (reason: cancelled), resumable; 0: no such
    limit."""
    heartbeat_s: float = 10.0
    """Seconds between two heartbeats."""
    system_every_s: float = 10.0
    """Seconds between two samples of CPU, memory and GPUs in the journal, at first, later a percent
    of the attempt's age; 0: none."""
    timeout_s: float = 600.0
    """Seconds that a rank waits for the others before the attempt ends as hung."""

    def __post_init__(self) -> None:
        with rules() as require:
            require(self.workers >= -1, "runtime.workers", self.workers, "0 or more, or -1")
            for key in ("threads", "device_batch", "max_steps"):
                require(getattr(self, key) >= 0, f"runtime.{key}", getattr(self, key), "0 or more")
            for key in ("eval_batch", "log_every"):
                require(
                    getattr(self, key) > 0,
                    f"runtime.{key}",
                    getattr(self, key),
                    "a positive whole number",
                )
            for key in ("checkpoint_every_s", "system_every_s"):
                require(
                    getattr(self, key) >= 0,
                    f"runtime.{key}",
                    getattr(self, key),
                    "0 or more seconds",
                )
            for key in ("heartbeat_s", "timeout_s"):
                require(
                    getattr(self, key) > 0,
                    f"runtime.{key}",
                    getattr(self, key),
                    "more than 0 seconds",
                )
