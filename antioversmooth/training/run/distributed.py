"""Rank, device and process group: the same for torchrun, SLURM, or a process started by hand."""

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
from torch._C._distributed_c10d import Store

from antioversmooth.config import RuntimeConfig
from antioversmooth.errors import LaunchError

T = TypeVar("T")


@dataclass(frozen=True)
class RankInfo:
    """Rank of a process among its peers, and the launcher that assigned it."""

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    launcher: str
    """torchrun, slurm or alone."""
    master: tuple[str, int] | None = None
    """Address and port where the ranks meet; None: already in the environment, or not needed."""

    @property
    def cpus(self) -> int:
        """CPUs of this process: its share of its SLURM task's, else of the machine's."""
        of_task, of_gpu = (os.environ.get(f"SLURM_CPUS_PER_{one}") for one in ("TASK", "GPU"))
        if of_gpu:
            # a process has one GPU
            return int(of_gpu)
        if of_task and self.launcher == "slurm":
            return int(of_task)
        shared = int(of_task) if of_task else len(os.sched_getaffinity(0))
        return max(1, shared // self.local_world_size)

    def export_master(self) -> None:
        """Puts the place where the ranks meet into the environment, where torch looks for it."""
        if self.master is not None:
            os.environ.update(MASTER_ADDR=self.master[0], MASTER_PORT=str(self.master[1]))


def rank_from_env(environment: Mapping[str, str]) -> RankInfo:
    """This process's rank: from torchrun's variables if set, else from its SLURM step.

    A shell inside an allocation has SLURM's job variables but no step of its own, and is alone.
    """
    if "WORLD_SIZE" in environment:
        keys = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        rank, world, local, local_world = (int(environment[key]) for key in keys)
        return RankInfo(rank, world, local, local_world, "torchrun")
    world = int(environment.get("SLURM_STEP_NUM_TASKS", "1"))
    if world > 1:
        nodes = int(environment.get("SLURM_STEP_NUM_NODES", "1"))
        return RankInfo(
            int(environment["SLURM_PROCID"]),
            world,
            int(environment["SLURM_LOCALID"]),
            world // nodes,
            "slurm",
            _slurm_master(environment),
        )
    return RankInfo(0, 1, 0, 1, "alone")


def _slurm_master(environment: Mapping[str, str]) -> tuple[str, int]:
    """First node of the step, and a port from the job id, below Linux's ephemeral ports."""
    host = environment.get("MASTER_ADDR") or first_host(environment["SLURM_STEP_NODELIST"])
    port = environment.get("MASTER_PORT") or 20000 + int(environment["SLURM_JOB_ID"]) % 12000
    return host, int(port)


def first_host(nodelist: str) -> str:
    """The first host of SLURM's compact list: node[03-07,9],login1 gives node03."""
    match = re.match(r"([^,\[]*)(?:\[([^\],-]+)[^\]]*\])?([^,\[]*)", nodelist)
    if not match or not match.group(0):
        raise LaunchError(f"SLURM_STEP_NODELIST: {nodelist!r} names no node")
    return "".join(part or "" for part in match.groups())


class Progress:
    """Counts the batches of a process, of training and of evaluation; the watchdog reads it."""

    def __init__(self) -> None:
        self.count = 0

    def mark(self) -> None:
        """Counts a batch."""
        self.count += 1


@dataclass(frozen=True)
class Ranks:
    """The processes of a run, seen from one of them."""

    info: RankInfo
    device: torch.device
    cpu_group: dist.ProcessGroup | None
    """Group for decisions and sums on the CPU, beside the gradients' own; None for one process."""
    progress: Progress = field(default_factory=Progress, compare=False)
    """Progress of this process."""

    @property
    def rank(self) -> int:
        return self.info.rank

    @property
    def world_size(self) -> int:
        return self.info.world_size

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run directory."""
        return self.info.rank == 0

    @property
    def device_name(self) -> str:
        """For people: NVIDIA H100 80GB HBM3, or the processor."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return processor_name() or "CPU"

    def from_main(self, value: T) -> T:
        """Rank 0's value, on every rank."""
        if self.cpu_group is None:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.cpu_group)
        return box[0]

    def gather(self, value: T) -> list[T]:
        """Every rank's value, by rank, on every rank."""
        if self.cpu_group is None:
            return [value]
        box: list[T | None] = [None] * self.world_size
        dist.all_gather_object(box, value, group=self.cpu_group)
        return cast(list[T], box)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all ranks, on the CPU."""
        total = values.detach().to("cpu", copy=True)
        if self.cpu_group is not None:
            dist.all_reduce(total, group=self.cpu_group)
        return total


@contextmanager
def process_group(runtime: RuntimeConfig, store: Store | None = None) -> Iterator[Ranks]:
    """The ranks of this run, connected; disconnected on leaving.

    Args:
        store: That all ranks are connected to already; None: the one at MASTER_ADDR is opened.
    """
    info = rank_from_env(os.environ)
    device = _device(info)
    _set_threads(runtime, info, device)
    if info.world_size == 1:
        yield Ranks(info, device, None)
        return
    info.export_master()
    timeout = timedelta(seconds=runtime.timeout_s)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(
        backend, rank=info.rank, world_size=info.world_size, timeout=timeout, store=store
    )
    try:
        cpu_group = dist.new_group(backend="gloo", timeout=timeout)
        # every rank is a member
        assert isinstance(cpu_group, dist.ProcessGroup)
        yield Ranks(info, device, cpu_group)
    finally:
        dist.destroy_process_group()


def _device(info: RankInfo) -> torch.device:
    if not torch.cuda.is_available():
        _check_no_gpu_assigned()
        return torch.device("cpu")
    # With --gpus-per-task=1 each task sees only its own GPU, as number 0.
    device = torch.device("cuda", info.local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


DRIVER = Path("/proc/driver/nvidia/version")


def _check_no_gpu_assigned() -> None:
    """Raises LaunchError if torch cannot use a process's GPUs: on the CPU it would take years."""
    assigned = os.environ.get("CUDA_VISIBLE_DEVICES")
    if assigned and DRIVER.exists():
        raise LaunchError(
            f"{socket.gethostname()}: this process has GPU {assigned}, and torch"
            f" {torch.__version__} sees none: is the driver too old for its CUDA?"
            " cluster.gpus_per_node=0 would train on CPUs"
        )


def _set_threads(runtime: RuntimeConfig, info: RankInfo, device: torch.device) -> None:
    """Sets the threads of torch: one in local runs on CPUs.

    On a busy machine, two threads that spin beside each other take 4 to 7 times the time of one.
    """
    # SLURM may count more than there are
    available = len(os.sched_getaffinity(0))
    names = {"SLURM_CPUS_PER_TASK", "SLURM_CPUS_PER_GPU"}
    scheduled = min(info.cpus, available) if names & os.environ.keys() else 0
    threads = runtime.threads or scheduled or (1 if device.type == "cpu" else 0)
    if threads:
        torch.set_num_threads(threads)


def processor_name() -> str:
    """Model name of the CPU; empty if the kernel gives none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "")
