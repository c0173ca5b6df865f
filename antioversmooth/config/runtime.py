"""How a run runs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from antioversmooth.config.rules import Config
from antioversmooth.constraints import above, at_least, option


class Compiler(Enum):
    """Backend of torch.compile: aot_eager traces as inductor does, and generates no code.

    reduce_overhead is a mode of inductor.
    """

    none = "none"
    inductor = "inductor"
    reduce_overhead = "reduce_overhead"
    aot_eager = "aot_eager"

    @property
    def generates_code(self) -> bool:
        """Whether it needs a compiler of the host's."""
        return self in (Compiler.inductor, Compiler.reduce_overhead)


@dataclass
class RuntimeConfig(Config, section="runtime"):
    """How a run runs; nothing here changes what is computed."""

    workers: int = option(-1, at_least(-1))
    """Data-loading processes per device; -1: from the CPUs that the job was given."""
    threads: int = option(0, at_least(0))
    """Threads of a process on the CPU; 0: one for local CPU runs, else what the scheduler gave."""
    device_batch: int = option(0, at_least(0))
    """Largest number of samples in one forward pass on a device; 0: global_batch / world size in
    one pass, or the largest part of it that fits into `cluster.gpu_mem_gb`."""
    eval_batch: int = option(250, at_least(1))
    """Samples in one evaluation pass on a device."""
    gradient_checkpointing: bool = False
    """Keep the input of each block only, and compute the rest again in the backward pass: less
    memory, same numbers."""
    compile: Compiler = Compiler.none
    """Compile the model for training: faster on a GPU after a minute at each start. The same
    computation in other kernels, so numbers move by rounding, as on another device; evaluation
    stays as it is. `reduce_overhead` is inductor that replays its kernels as CUDA graphs; on a CPU,
    which has none, it is inductor."""
    log_every: int = option(50, at_least(1))
    """Steps between two train records in the journal."""
    checkpoint_every_s: float = option(300.0, at_least(0))
    """Seconds between two checkpoints within an epoch; the end of an epoch always saves."""
    max_steps: int = option(0, at_least(0))
    """End the attempt after this many steps of the run (reason: cancelled), resumable; 0: no such
    limit."""
    heartbeat_s: float = option(10.0, above(0))
    """Seconds between two heartbeats."""
    system_every_s: float = option(10.0, at_least(0))
    """Seconds between two samples of CPU, memory and GPUs in the journal, at first, later a percent
    of the attempt's age; 0: none."""
    timeout_s: float = option(600.0, above(0))
    """Seconds that a rank waits for the others before the attempt ends as hung."""
