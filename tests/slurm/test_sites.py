"""A cluster that is configured as public sites are: limits, accounts, partitions, nodes."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path

import cluster
import pytest
from cluster import Cluster
from completed import finish
from lab import EXPERIMENTS
from private import private_cluster

from antioversmooth import spec
from antioversmooth.errors import LaunchError
from antioversmooth.orchestration.backend import Outcome
from antioversmooth.orchestration.monitor.view import LineView
from antioversmooth.orchestration.slurm import client, submission
from antioversmooth.orchestration.slurm.backend import SlurmBackend
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import RunRecord

SITES = sorted((EXPERIMENTS / "cluster" / "sites").glob("*.yaml"))
# nodes that are in a cloud run no slurmd until a job starts, so that any number of any size is free
CONFIGURATION = """
AccountingStorageEnforce=limits
Licenses=scratch:100
NodeName=DEFAULT State=CLOUD Weight=100
NodeName=pm[1-8] CPUs=128 CoresPerSocket=64 ThreadsPerCore=2 RealMemory=250000 Gres=gpu:a100:4 \
    Feature=gpu,hbm40g
NodeName=jwb[1-8] CPUs=96 CoresPerSocket=24 Sockets=2 ThreadsPerCore=2 RealMemory=500000 \
    Gres=gpu:a100:4
NodeName=nid[1-8] CPUs=128 CoresPerSocket=64 ThreadsPerCore=2 RealMemory=512000 Gres=gpu:mi250:8
NodeName=ls[1-8] CPUs=128 CoresPerSocket=64 Sockets=2 RealMemory=250000 Gres=gpu:0
NodeName=lrdn[1-8] CPUs=32 CoresPerSocket=32 RealMemory=494000 Gres=gpu:a100:4
NodeName=ng[1-8] CPUs=48 CoresPerSocket=24 Sockets=2 RealMemory=498000 Gres=gpu:a100:4
NodeName=uni[01-08] CPUs=32 CoresPerSocket=16 Sockets=2 RealMemory=250000 Gres=gpu:a40:2
NodeName=h[1-8] CPUs=96 CoresPerSocket=48 Sockets=2 RealMemory=1000000 Gres=gpu:h100:8
NodeName=w[1-8] CPUs=128 CoresPerSocket=64 Sockets=2 RealMemory=500000 Gres=gpu:8
PartitionName=booster Nodes=jwb[1-8] OverSubscribe=EXCLUSIVE MaxTime=1440
PartitionName=standard-g Nodes=nid[1-8] OverSubscribe=EXCLUSIVE MaxTime=2880
PartitionName=gpu-a100 Nodes=ls[1-8] OverSubscribe=EXCLUSIVE MaxTime=2880
PartitionName=boost_usr_prod Nodes=lrdn[1-8] MaxTime=1440
PartitionName=gpu Nodes=uni[01-08] MaxTime=720
PartitionName=gpu-long Nodes=uni[01-04] MaxTime=10080
PartitionName=gpu-preempt Nodes=uni[05-08]
PartitionName=h100 Nodes=h[1-8]
PartitionName=batch Nodes=w[1-8]
"""


@pytest.fixture(scope="module")
def site(slurm_is_there: None) -> Iterator[tuple[Cluster, Path]]:
    """A cluster of one node that keeps limits, and a folder that it sees."""
    with private_cluster(
        nodes=1, accounting=True, proctrack="linuxproc", shared=cluster.shares_loopback(),
        extra=CONFIGURATION,
    ) as (private, folder):  # fmt: skip
        private.ask("sacctmgr", "-i", "add", "account", "project")
        private.ask("sacctmgr", "-i", "add", "user", getpass.getuser(), "account=project")
        yield private, folder


class EndingView(LineView):
    """Lets the job of each run that has one end, with the run done."""

    def update(self, notes: Mapping[str, str]) -> None:
        super().update(notes)
        for run in self._reader.runs:
            if run.result() is None and RunRecord.read(run).newest_job_id:
                finish(run)
                client.cancel([str(RunRecord.read(run).newest_job_id)])


def test_following_sees_a_table_through_below_its_number_of_runs(
    site: tuple[Cluster, Path],
) -> None:
    private, folder = site
    private.ask("sacctmgr", "-i", "add", "qos", "narrow", "MaxSubmitJobsPerUser=1")
    private.ask("scontrol", "update", "PartitionName=low", "QOS=narrow")
    held = ["profile=mini", "cluster.partition=low", "cluster.account=project"]
    held += ["cluster.gpus_per_node=0", "+cluster.sbatch.hold=true"]
    request = spec.load([EXPERIMENTS / "deit_s12.yaml"], held)
    runs, said = request.plan([0, 1, 2], folder / "results"), StringIO()
    code = Snapshot("0" * 12, folder, None, False)
    first = SlurmBackend().launch(runs, code, LineView(runs, said))
    assert [*first.outcomes.values()] == [Outcome.submitted, *[Outcome.waiting] * 2]
    assert "1 of 3 submitted, 2 wait for the limit QOSMaxSubmitJobPerUserLimit" in said.getvalue()
    # at the limit, `--test-only` is refused, too
    following = SlurmBackend(follow=True, refresh_s=0.1)
    launched = following.launch(runs, code, EndingView(runs, said))
    assert launched.outcomes == {run.id: Outcome.done for run in runs}
    jobs = [{e.job_id for e in RunRecord.read(run).events if e.job_id} for run in runs]
    assert [len(ids) for ids in jobs] == [1, 1, 1]


@pytest.mark.parametrize("path", SITES, ids=lambda path: path.stem)
def test_the_profile_of_a_site_is_accepted_where_slurm_is_configured_like_it(
    site: tuple[Cluster, Path], path: Path
) -> None:
    _, folder = site
    request = spec.load([EXPERIMENTS / "deit_s12.yaml"], [f"cluster=sites/{path.stem}"])
    (run,) = request.plan([0], folder / "results" / path.stem)
    assert run.experiment.cluster.name == path.stem
    code = Snapshot("0" * 12, folder, None, False)
    assert submission.test_only([run], code) == []


def test_a_profile_with_another_account_or_more_than_a_node_has_is_refused(
    site: tuple[Cluster, Path],
) -> None:
    _, folder = site
    code = Snapshot("0" * 12, folder, None, False)
    for wrong, words in [
        ("cluster.account=nobody", "Invalid account"),
        ("cluster.gpus_per_node=5", "configuration is not available"),
        ("cluster.constraint=hbm999g", "Invalid feature"),
        ("cluster.nodes=9", "configuration is not available"),
    ]:
        row = [EXPERIMENTS / "deit_s12.yaml"]
        request = spec.load(row, ["cluster=sites/perlmutter", "recipe.global_batch=1440", wrong])
        runs = request.plan([0], folder / "results" / "wrong")
        with pytest.raises(LaunchError, match=words):
            submission.test_only(runs, code)
