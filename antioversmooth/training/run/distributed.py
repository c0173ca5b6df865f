"""Who am I among how many: the same answer whether torchrun, SLURM or nobody started us."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from antioversmooth.config import RuntimeConfig
from antioversmooth.errors import LaunchError
from antioversmooth.training.run.watchdog import Progress

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """A process's place, and what said so."""

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    source: str
    """torchrun, slurm or alone."""
    master: tuple[str, int] | None = None
    """Address and port where the ranks meet; None: the environment holds them already, or there is
    nobody to meet."""

    @property
    def cpus(self) -> int:
        """CPUs of this process: of its SLURM task, which the ranks of a torchrun agent share; else
        of the machine."""
        of_task = os.environ.get("SLURM_CPUS_PER_TASK")
        if of_task and self.source == "slurm":
            return int(of_task)
        return max(
            1, (int(of_task) if of_task else len(os.sched_getaffinity(0))) // self.local_world_size
        )


def find_place(environment: Mapping[str, str]) -> Place:
    """This process's place. torchrun's variables decide where they are, then those of a SLURM step
    of one task a rank.

    A shell inside an allocation has SLURM's job variables but no step of its own, and is alone.
    """
    if "WORLD_SIZE" in environment:
        rank, world, local, local_world = (
            int(environment[key])
            for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        )
        return Place(rank, world, local, local_world, "torchrun")
    world = int(environment.get("SLURM_STEP_NUM_TASKS", "1"))
    if world > 1:
        nodes = int(environment.get("SLURM_STEP_NUM_NODES", "1"))
        return Place(
            int(environment["SLURM_PROCID"]),
            world,
            int(environment["SLURM_LOCALID"]),
            world // nodes,
            "slurm",
            _slurm_master(environment),
        )
    return Place(0, 1, 0, 1, "alone")


def _slurm_master(environment: Mapping[str, str]) -> tuple[str, int]:
    """First node of the step, and a port that follows from the job: below Linux's ephemeral ports,
    never 127.0.0.1."""
    host = environment.get("MASTER_ADDR") or first_host(environment["SLURM_STEP_NODELIST"])
    port = environment.get("MASTER_PORT") or 20000 + int(environment["SLURM_JOB_ID"]) % 12000
    return host, int(port)


def first_host(nodelist: str) -> str:
    """The first name of SLURM's compact list: node[03-07,9],login1 gives node03."""
    match = re.match(r"([^,\[]*)(?:\[([^\],-]+)[^\]]*\])?([^,\[]*)", nodelist)
    if not match or not match.group(0):
        raise LaunchError(f"SLURM_STEP_NODELIST: {nodelist!r} names no node")
    return "".join(part or "" for part in match.groups())


@dataclass(frozen=True)
class Ranks:
    """The processes of a run, seen from one of them."""

    place: Place
    device: torch.device
    control: dist.ProcessGroup | None
    """Group over the CPU for decisions and sums, apart from the gradients' and without the device;
    None: alone."""
    progress: Progress = field(default_factory=Progress, compare=False)
    """Of this process."""

    @property
    def rank(self) -> int:
        return self.place.rank

    @property
    def world_size(self) -> int:
        return self.place.world_size

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run directory."""
        return self.place.rank == 0

    @property
    def device_name(self) -> str:
        """For people: NVIDIA H100 80GB HBM3, or the processor."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return _processor_name()

    def from_main(self, value: T) -> T:
        """What rank 0 passes, on every rank."""
        if self.control is None:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def gather(self, value: T) -> list[T]:
        """What each rank passes, by rank, on every rank."""
        if self.control is None:
            return [value]
        box: list[T | None] = [None] * self.world_size
        dist.all_gather_object(box, value, group=self.control)
        return cast(list[T], box)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all ranks, on the CPU."""
        total = values.detach().to("cpu", copy=True)
        if self.control is not None:
            dist.all_reduce(total, group=self.control)
        return total


@contextmanager
def joined(runtime: RuntimeConfig) -> Iterator[Ranks]:
    """The ranks of this run, connected; disconnected on leaving."""
    place = find_place(os.environ)
    device = _device(place)
    _set_threads(runtime, place, device)
    if place.world_size == 1:
        yield Ranks(place, device, None)
        return
    if place.master is not None:
        os.environ.update(MASTER_ADDR=place.master[0], MASTER_PORT=str(place.master[1]))
    timeout = timedelta(seconds=runtime.timeout_s)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, rank=place.rank, world_size=place.world_size, timeout=timeout)
    try:
        control = dist.new_group(backend="gloo", timeout=timeout)
        # every rank is a member
        assert isinstance(control, dist.ProcessGroup)
        yield Ranks(place, device, control)
    finally:
        dist.destroy_process_group()


def _device(place: Place) -> torch.device:
    if not torch.cuda.is_available():
        _check_that_no_gpu_was_given()
        return torch.device("cpu")
    # With --gpus-per-task=1 each task sees only its own GPU, as number 0.
    device = torch.device("cuda", place.local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


DRIVER = Path("/proc/driver/nvidia/version")


def _check_that_no_gpu_was_given() -> None:
    """Raises LaunchError where a process has GPUs that torch cannot use: on the CPU the run would
    take years."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given and DRIVER.exists():
        raise LaunchError(
            f"{socket.gethostname()}: this process was given GPU {given}, and torch"
            f" {torch.__version__} sees none: is the driver too old for its CUDA?"
            " cluster.gpus_per_node=0 would train on CPUs"
        )


def _set_threads(runtime: RuntimeConfig, place: Place, device: torch.device) -> None:
    """One thread for local CPU runs: two that spin beside each other on a busy machine cost 4 to 7
    times the time."""
    # SLURM may count more than there are
    at_hand = len(os.sched_getaffinity(0))
    scheduled = min(place.cpus, at_hand) if "SLURM_CPUS_PER_TASK" in os.environ else 0
    threads = runtime.threads or scheduled or (1 if device.type == "cpu" else 0)
    if threads:
        torch.set_num_threads(threads)


def _processor_name() -> str:
    try:
        with open("/proc/cpuinfo") as info:
            names = [
                line.partition(":")[2].strip() for line in info if line.startswith("model name")
            ]
    except OSError:
        names = []
    return names[0] if names else "CPU"
