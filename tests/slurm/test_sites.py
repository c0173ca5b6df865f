"""A cluster with limits, as sites have them."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import cluster
import pytest
from cluster import Cluster
from lab import EXPERIMENTS, SMALL
from private import private_cluster

from antioversmooth import spec
from antioversmooth.orchestration import snapshot
from antioversmooth.orchestration.backend import Outcome
from antioversmooth.orchestration.monitor.view import LineView
from antioversmooth.orchestration.slurm.backend import SlurmBackend

LIMITS = "AccountingStorageEnforce=limits\n"


@pytest.fixture(scope="module")
def site(slurm_is_there: None) -> Iterator[tuple[Cluster, Path]]:
    """A cluster of one node that keeps limits, and a folder that it sees."""
    with private_cluster(
        nodes=1, accounting=True, proctrack="linuxproc", shared=cluster.shares_loopback(),
        extra=LIMITS,
    ) as (private, folder):  # fmt: skip
        private.ask("sacctmgr", "-i", "add", "account", "lab")
        private.ask("sacctmgr", "-i", "add", "user", getpass.getuser(), "account=lab")
        yield private, folder


def test_following_sees_a_table_through_below_its_number_of_runs(
    site: tuple[Cluster, Path],
) -> None:
    private, folder = site
    private.ask("sacctmgr", "-i", "add", "qos", "narrow", "MaxSubmitJobsPerUser=1")
    private.ask("scontrol", "update", "PartitionName=low", "QOS=narrow")
    small = ["recipe.global_batch=80", "cluster.nodes=1", "cluster.partition=low"]
    chosen = {word.partition("=")[0]: word for word in (*SMALL, *small, "cluster.account=lab")}
    request = spec.load([EXPERIMENTS / "deit_s12.yaml"], list(chosen.values()))
    runs, said = request.plan([0, 1], folder / "results"), StringIO()
    code = snapshot.take(folder / "results")
    with LineView(runs, said) as view:
        first = SlurmBackend().launch(runs, code, view)
        # at the limit, `--test-only` is refused, too
        launched = SlurmBackend(follow=True, refresh_s=1).launch(runs, code, view)
    assert [*first.outcomes.values()] == [Outcome.submitted, Outcome.waiting]
    assert launched.outcomes == {run.id: Outcome.done for run in runs}
    assert "1 of 2 submitted, 1 waits for the limit QOSMaxSubmitJobPerUserLimit" in said.getvalue()
