"""The request for probes, which the login node writes and every rank reads; without torch."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from antioversmooth import files
from antioversmooth.config import ClusterConfig
from antioversmooth.errors import LaunchError, error_message
from antioversmooth.shapes import Bounds, misfits

REQUEST = "request.json"
"""Name of the request in the folder of the probes."""
APPEARS_WITHIN_S = 30.0
"""Seconds in which the request must be visible on a node."""
WAITING = "rank{}.waiting"
"""Name of an empty file, by rank: the rank waits for the warning signal, and all else is probed."""
PROBING = "rank0.probing"
"""Name of a file with the name of the probe that rank 0 makes, and its time limit."""
TRAINING_SPEED = "training speed"
"""Check whose findings have the values of a `Speed`, one finding for each run of a request."""


@dataclass(frozen=True)
class Speed:
    """Steps of the real model, as one rank measured them."""

    run: str
    """Directory of the run, as in the request."""
    images_per_s: float
    """Images a second and device."""
    device_name: str
    """Name of the GPU, or of the processor."""
    device_type: str
    """cuda or cpu."""
    processes: int
    """Ranks that took the steps together."""
    device_batch: int
    """Samples per pass."""
    device_memory_gb: float
    """Peak of the GPU's memory, in GiB; 0 on CPUs."""
    host_memory_gb: float
    """Peak of the memory of the rank's process, in GiB."""


@dataclass(frozen=True)
class ProbeRequest:
    """Promises that the probes compare the nodes with, and the time that they may take."""

    processes_per_node: int
    """Ranks on each node."""
    nodes: int = 1
    gpus_per_node: int = 0
    """GPUs that each node must have; 0: the ranks train on CPUs."""
    cpus_per_task: int = 0
    """CPUs that each rank must have; 0: none are promised."""
    mem_gb: float = 0
    """Memory that the ranks of a node must have together, in GiB; 0: none is promised."""
    runs: list[str] = field(default_factory=list)
    """Directories of prepared runs whose data and models are probed, one for each model; empty:
    neither is."""
    code: str = ""
    """Id of the code that the ranks must run; empty: any."""
    limit_s: float = 60.0
    """Seconds after which a probe counts as hung; listing data and taking steps have five times as
    many."""
    measure_s: float = 10.0
    """Seconds for each measurement of a speed."""
    signal_wait_s: float = 0.0
    """Seconds to wait for the scheduler's warning signal, after all other probes; 0: none comes."""
    login_time: float = 0.0
    """Clock of the login node as it writes the request, in seconds since 1970; set by `write`."""
    gpu_mem_gb: float = 0
    """Memory that each GPU must have, in GiB; 0: none is promised."""

    @classmethod
    def of(cls, cluster: ClusterConfig, **others: Any) -> ProbeRequest:
        """The request for the nodes of a profile.

        Args:
            others: Other fields.
        """
        promised = ("nodes", "gpus_per_node", "cpus_per_task", "mem_gb", "processes_per_node")
        given: dict[str, Any] = {name: getattr(cluster, name) for name in promised}
        return cls(gpu_mem_gb=cluster.gpu_mem_gb or 0, **given, **others)

    def write(self, folder: Path) -> None:
        """Writes the request into the folder of the probes, with the time of this machine."""
        stamped = dataclasses.replace(self, login_time=time.time())
        files.write_json(folder / REQUEST, dataclasses.asdict(stamped))

    @classmethod
    def read(cls, folder: Path) -> ProbeRequest:
        """The request in the folder of the probes.

        Raises:
            LaunchError: It is not there, or is none.
        """
        path = folder / REQUEST
        try:
            content = files.read_json(path)
        except (ValueError, OSError) as err:
            raise LaunchError(f"{path} cannot be read: {error_message(err)}") from err
        if content is None:
            raise LaunchError(f"{path} is not there")
        if wrong := "; ".join(misfits(content, _SHAPE)):
            raise LaunchError(f"{path}: {wrong}")
        known = [one.name for one in dataclasses.fields(cls)]
        return cls(**{name: content[name] for name in known})


_SHAPE = {
    "processes_per_node": range(1, 2**20),
    "nodes": range(1, 2**20),
    "gpus_per_node": range(2**20),
    "gpu_mem_gb": Bounds(0),
    "cpus_per_task": range(2**20),
    "mem_gb": Bounds(0),
    "runs": [str],
    "code": str,
    "limit_s": Bounds(0.1),
    "measure_s": Bounds(0),
    "signal_wait_s": Bounds(0),
    "login_time": float,
}
