"""The probes as processes of this machine, where there is no SLURM."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from antioversmooth.orchestration.doctor.gathering import Progress, is_waiting
from antioversmooth.orchestration.snapshot import PROJECT

LOOK_S = 0.2


def run_processes(
    folder: Path, count: int, gpus: Sequence[str], *, wait_min: float, progress: Progress
) -> str:
    """Runs the probes on this machine; none of their processes is left when it returns or raises.

    Args:
        folder: Holds the request.
        count: Ranks.
        gpus: GPUs that they share out; empty on CPUs.
        wait_min: Minutes after which they are killed.

    Returns:
        Why they were killed; empty where they ended by themselves.
    """
    port = _free_port()
    command = [sys.executable, "-u", "-m", "antioversmooth.training.probes", str(folder)]
    with ExitStack() as stack:
        started: list[subprocess.Popen[bytes]] = []
        stack.callback(_kill, started)
        for rank in range(count):
            log = stack.enter_context((folder / log_name(rank)).open("wb"))
            environment = _environment(rank, count, gpus, port)
            started.append(
                subprocess.Popen(
                    command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True,
                )
            )  # fmt: skip
        return _wait(started, folder, 60 * wait_min, progress)


def _kill(started: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ends the processes that are left, with those that they have started."""
    for process in started:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def log_name(rank: int) -> str:
    """Name of the log of a process in the folder of the probes."""
    return f"local_{rank}_log.err"


def _environment(rank: int, count: int, gpus: Sequence[str], port: int) -> dict[str, str]:
    """The environment of a rank, as the local back end and torchrun make it."""
    path = filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")])
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONSAFEPATH": "1",
        "ANTIOVERSMOOTH_PARENT": str(os.getpid()),
        "CUDA_VISIBLE_DEVICES": ",".join(gpus),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "RANK": str(rank), "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _wait(
    started: Sequence[subprocess.Popen[bytes]], folder: Path, limit_s: float, progress: Progress
) -> str:
    """Sends each rank the signal that it waits for; returns why it did not wait to the end."""
    deadline, signalled = time.monotonic() + limit_s, set[int]()
    while any(process.poll() is None for process in started):
        progress.look()
        for rank, process in enumerate(started):
            if rank not in signalled and is_waiting(folder, rank):
                signalled.add(rank)
                process.send_signal(signal.SIGUSR2)
        if time.monotonic() > deadline:
            return f"the probes still ran after {limit_s / 60:g} minutes (--wait)"
        time.sleep(LOOK_S)
    return ""
