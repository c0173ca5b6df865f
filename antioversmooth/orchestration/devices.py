"""The devices of this machine, and how a run is placed on them. Asks the driver, never torch."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from antioversmooth.config import ClusterConfig, Experiment
from antioversmooth.errors import SpecError
from antioversmooth.runs import deal, memory


@dataclass(frozen=True)
class Placement:
    """How a run is placed on this machine."""

    processes: int
    """Ranks."""
    on_gpu: bool
    """One GPU for each of them; else CPUs."""
    device_batch: int
    """Samples per process and pass."""
    accumulation: int
    """Passes per optimizer step."""
    peak_bytes: float | None = None
    """Most memory of a GPU's tensors in a training step; None on CPUs, and where it is not
    known."""

    @property
    def device(self) -> str:
        """For people: 2 GPUs, 1 CPU process."""
        one, many = ("GPU", "GPUs") if self.on_gpu else ("CPU process", "CPU processes")
        return f"{self.processes} {one if self.processes == 1 else many}"


def visible_gpus() -> list[str]:
    """Indices or names of the GPUs that this process may use, as in CUDA_VISIBLE_DEVICES."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        names = [gpu.strip() for gpu in chosen.split(",")]
        return [name for name in names if name not in ("", "-1", "NoDevFiles")]
    try:
        answer = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, errors="replace", timeout=30, check=True
        )
        count = sum(line.startswith("GPU ") for line in answer.stdout.splitlines())
    except (OSError, subprocess.SubprocessError):
        # a container without the tool still has the devices
        count = len(list(Path("/dev").glob("nvidia[0-9]*")))
    return [str(index) for index in range(count)]


def cpus() -> int:
    """CPUs that this process may use."""
    # Linux: what the container or the scheduler left to us
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def place(experiment: Experiment, gpus: Sequence[str]) -> Placement:
    """The placement of one run on this machine.

    The global batch is that of the spec for any number of processes. A machine with fewer GPUs than
    the spec asks for uses the largest number that the global batch divides over. Without a GPU it
    is one process on the CPU, or `tasks_per_node` processes if the spec asks for no GPUs.

    Args:
        gpus: The GPUs of this machine.

    Raises:
        SpecError: The global batch does not divide over the processes of the spec.
    """
    cluster = experiment.cluster
    asked = cluster.nodes * cluster.gpus_per_node
    if not asked or not gpus:
        return place_on(experiment, 1 if asked else cluster.tasks_per_node, on_gpu=False)
    if asked <= len(gpus):
        return place_on(experiment, asked, on_gpu=True)
    for processes in range(len(gpus), 1, -1):
        try:
            return place_on(experiment, processes, on_gpu=True)
        except SpecError:
            continue
    return place_on(experiment, 1, on_gpu=True)


def place_on(experiment: Experiment, processes: int, *, on_gpu: bool) -> Placement:
    """The placement of a run on a number of processes.

    Raises:
        SpecError: The global batch does not divide over them.
    """
    try:
        device_batch, accumulation = deal(experiment, processes)
    except SpecError as err:
        message = err.message + explain_world_size(experiment.cluster, processes)
        raise SpecError(message, where=f"{experiment.name}: {err.where}") from err
    peak_bytes = None
    if on_gpu:
        peak_bytes = memory.peak_bytes(experiment, device_batch, accumulation, processes)
    return Placement(processes, on_gpu, device_batch, accumulation, peak_bytes)


def explain_world_size(cluster: ClusterConfig, processes: int) -> str:
    """How the number of processes follows from a cluster profile; empty where it does not."""
    if processes != cluster.world_size:
        return ""
    per_node = "gpus_per_node" if cluster.gpus_per_node else "tasks_per_node"
    nodes = f"cluster.nodes = {cluster.nodes} (--nodes)"
    return f"; {processes} is {nodes} times cluster.{per_node} = {cluster.processes_per_node}"
