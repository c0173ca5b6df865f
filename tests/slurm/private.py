"""A private cluster from start to clean-up."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import cluster
from cluster import Cluster
from machines import kill_all


@contextmanager
def private_cluster(
    *, nodes: int, accounting: bool, proctrack: str, shared: bool, extra: str = ""
) -> Iterator[tuple[Cluster, Path]]:
    """Runs the cluster that SLURM's clients talk to; yields it and a folder that it sees."""
    _remove_leftovers()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    private = Cluster(
        folder / "cluster",
        nodes=nodes,
        accounting=accounting,
        proctrack=proctrack,
        shared=shared,
        extra=extra,
    )
    before = dict(os.environ)
    os.environ.update(private.environment)
    try:
        private.up()
        yield private, folder
    finally:
        os.environ.clear()
        os.environ.update(before)
        private.down()
        shutil.rmtree(folder)


PREFIX = "aos-slurm-"


def _remove_leftovers() -> None:
    """Removes what killed test runs left of their clusters outside of namespaces."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        # another test run may just have removed it
        with suppress(FileNotFoundError):
            if folder.stat().st_uid == os.getuid() and _is_gone(
                folder.name.removeprefix(PREFIX).partition("-")[0]
            ):
                kill_all(folder / "cluster")
                shutil.rmtree(folder, ignore_errors=True)
    for folder in cluster.FREEZER.glob("slurm_n*x*"):
        if _is_gone(folder.name.removeprefix("slurm_n").partition("x")[0]):
            cluster.remove_cgroups(folder.name.removeprefix("slurm_"))


def _is_gone(process: str) -> bool:
    return process.isdecimal() and not Path("/proc", process).exists()
