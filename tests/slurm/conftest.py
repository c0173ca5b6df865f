"""A private cluster for each kind of process tracking, and what the tests do on it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cluster
import pytest
from cluster import Cluster
from lab import Lab


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder need a SLURM, and say how to get one rather than pass without."""
    for item in items:
        if Path(item.path).parent == Path(__file__).parent:
            item.add_marker("slurm")


@pytest.fixture(scope="session")
def slurm_is_there() -> None:
    why = cluster.missing()
    if why:
        pytest.fail(why, pytrace=False)


@pytest.fixture(scope="session", params=["cgroup", "linuxproc"])
def lab(request: pytest.FixtureRequest, slurm_is_there: None) -> Iterator[Lab]:
    """A cluster of three nodes: one with accounting, where processes are tracked by cgroup, and one without."""
    if request.param not in cluster.tracking():
        pytest.skip("no cgroup v1 freezer here: processes are tracked by descent only")
    folder = Path(tempfile.mkdtemp(prefix="aos-slurm-"))
    private = Cluster(folder / "cluster", nodes=3, accounting=request.param == "cgroup", proctrack=request.param)
    private.up()
    before = dict(os.environ)
    os.environ.update(private.environment)
    try:
        yield Lab(private, folder)
    finally:
        os.environ.clear()
        os.environ.update(before)
        private.down()
        shutil.rmtree(folder)
