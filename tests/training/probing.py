"""Ranks of probes as threads of one process, and as processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from processes import free_port
from torch._C._distributed_c10d import HashStore

from antioversmooth.finding import Finding, Level
from antioversmooth.training.probes.context import Context
from antioversmooth.training.probes.exchange import Exchange
from antioversmooth.training.probes.request import ProbeRequest
from antioversmooth.training.run.distributed import RankInfo

Look = Callable[[Context], Iterator[Finding]]


def contexts(folders: Sequence[Path], request: ProbeRequest, **fields: Any) -> list[Context]:
    """A rank on a node of its own for each folder, which all believe to be the same one."""
    count, store = len(folders), HashStore()
    infos = [RankInfo(rank, count, 0, 1, "test") for rank in range(count)]
    return [
        Context(
            request,
            folder,
            info,
            Exchange(info, store if count > 1 else None, limit_s=10, probe="probe"),
            host=f"node{info.rank}",
            **fields,
        )
        for info, folder in zip(infos, folders, strict=True)
    ]


def look_on_all(looks: Sequence[Look], ranks: Sequence[Context]) -> list[list[Finding]]:
    """Findings of each rank, whose looks run at the same time; one look is that of all ranks."""
    each = list(looks) * (len(ranks) // len(looks))
    with ThreadPoolExecutor(len(ranks)) as pool:
        return list(pool.map(lambda look, rank: list(look(rank)), each, ranks))


def levels(found: Sequence[Sequence[Finding]]) -> list[list[Level]]:
    """The levels of the findings of each rank."""
    return [[finding.level for finding in of_rank] for of_rank in found]


def start(folders: Sequence[Path], **environment: str) -> list[BaseProcess]:
    """The running probes, a process for each folder of a request, as the local back end starts
    them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["antioversmooth.training.process"])
    port, count = str(free_port()), str(len(folders))
    started = []
    for rank, folder in enumerate(folders):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        place |= {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        process = context.Process(target=_rank, args=(folder, {**place, **environment}))
        process.start()
        started.append(process)
    return started


def _rank(folder: Path, environment: dict[str, str]) -> None:
    from antioversmooth.training.probes import inspection
    from antioversmooth.training.probes.__main__ import main

    os.environ.update(environment)
    inspection.APPEARS_WITHIN_S = 0.2
    sys.exit(main([str(folder)]))


def read(folder: Path, rank: int) -> dict[str, list[Finding]]:
    """The findings that a rank has written, by check."""
    found: dict[str, list[Finding]] = {}
    for line in (folder / f"rank{rank}.jsonl").read_text().splitlines():
        finding = Finding.from_line(line)
        found.setdefault(finding.check, []).append(finding)
    return found
