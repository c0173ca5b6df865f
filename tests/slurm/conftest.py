"""Two private clusters, and what the tests do on them."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cluster
import pytest
from cluster import Cluster
from lab import LABS, Lab
from machines import kill_all
from xdist.scheduler import LoadScopeScheduling


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder need a SLURM, and say how to get one rather than pass without."""
    for item in items:
        if Path(item.path).parent == Path(__file__).parent:
            item.add_marker("slurm")


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Of two workers each has one of the clusters: what its tests wait for is time for those of the other."""
    return OneClusterEach(config, log)


class OneClusterEach(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return next((name for name in LABS if re.search(rf"\b{name}\]$", nodeid)), "bare")


@pytest.fixture(scope="session")
def slurm_is_there() -> None:
    why = cluster.missing()
    if why:
        pytest.fail(why, pytrace=False)


@pytest.fixture(scope="session", params=LABS)
def lab(request: pytest.FixtureRequest, slurm_is_there: None) -> Iterator[Lab]:
    """A cluster of three nodes, of the kind that its name says."""
    with private_cluster(nodes=3, shared=cluster.shares_loopback(), **LABS[request.param]) as (private, folder):
        yield Lab(private, folder)


@contextmanager
def private_cluster(*, nodes: int, accounting: bool, proctrack: str, shared: bool) -> Iterator[tuple[Cluster, Path]]:
    """A cluster that runs meanwhile, as the one that SLURM's clients mean; and a folder that it sees."""
    _remove_what_was_left()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    private = Cluster(folder / "cluster", nodes=nodes, accounting=accounting, proctrack=proctrack, shared=shared)
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


def _remove_what_was_left() -> None:
    """Removes clusters of test runs that were killed before they could; what has namespaces died with them."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if folder.stat().st_uid == os.getuid() and _is_gone(folder.name.removeprefix(PREFIX).partition("-")[0]):
            kill_all(folder / "cluster")
            shutil.rmtree(folder, ignore_errors=True)
    for folder in cluster.FREEZER.glob("slurm_n*x*"):
        if _is_gone(folder.name.removeprefix("slurm_n").partition("x")[0]):
            cluster.remove_cgroups(folder.name.removeprefix("slurm_"))


def _is_gone(process: str) -> bool:
    return process.isdecimal() and not Path("/proc", process).exists()
