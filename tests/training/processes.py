"""Tiny runs, and their ranks as processes of their own: torch is imported once, in a server that
forks them."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

from antioversmooth.runs import Run

TINY = (
    "model.depth=2",
    "model.embed_dim=16",
    "model.num_heads=2",
    "model.image_size=8",
    "model.patch_size=4",
    "data.name=digits",
    "data.source=digits",
    "data.fingerprint=''",
    "data.num_train=1438",
    "data.num_val=359",
    "recipe.epochs=2",
    "recipe.warmup_epochs=0.5",
    "recipe.global_batch=128",
    "recipe.mix_group=16",
    "recipe.mixup=0.8",
    "recipe.cutmix=1.0",
    "recipe.random_erasing=0.25",
    "recipe.dropout=0.1",
    "recipe.drop_path=0.1",
    "runtime.log_every=1",
)
"""Overrides for a run of a second: real 8x8 digits, two blocks of sixteen channels, all of the
recipe switched on."""


def tiny(*overrides: str) -> list[str]:
    """The overrides of a tiny run, changed and extended by others."""
    return list({given.partition("=")[0]: given for given in (*TINY, *overrides)}.values())


def start(run: Run, *, ranks: int = 1, nodes: int = 1, **environment: str) -> list[BaseProcess]:
    """The running ranks, with what torchrun would put into their environment on so many nodes;
    alone, without."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["antioversmooth.training.process"])
    port = str(free_port())
    processes = []
    for rank in range(ranks):
        place = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank % (ranks // nodes)),
            "WORLD_SIZE": str(ranks),
            "LOCAL_WORLD_SIZE": str(ranks // nodes),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        changed = environment | (place if ranks > 1 else {})
        process = context.Process(target=_rank, args=(run.dir, changed))
        process.start()
        processes.append(process)
    return processes


def finish(processes: list[BaseProcess]) -> list[int | None]:
    """Waits for processes to end, and returns their exit codes."""
    for process in processes:
        process.join(timeout=120)
    return [process.exitcode for process in processes]


def train(run: Run, *, ranks: int = 1, nodes: int = 1, **environment: str) -> list[int | None]:
    """Trains a run in processes of its own; their exit codes."""
    return finish(start(run, ranks=ranks, nodes=nodes, **environment))


def _rank(directory: Path, environment: dict[str, str]) -> None:
    from antioversmooth.training.__main__ import main

    os.environ.update(environment)
    sys.exit(main([str(directory)]))


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
