"""Two private clusters for the tests of this folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import cluster
import pytest
from lab import LABS, Lab
from private import private_cluster
from xdist.scheduler import LoadScopeScheduling


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks all tests of this folder; without SLURM they fail with how to install it."""
    for item in items:
        if Path(item.path).parent == Path(__file__).parent:
            item.add_marker("slurm")


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Gives each of two workers one of the clusters, since their tests mostly wait."""
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
    with private_cluster(nodes=3, shared=cluster.shares_loopback(), **LABS[request.param]) as (
        private,
        folder,
    ):
        yield Lab(private, folder)
