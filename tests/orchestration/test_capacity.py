"""A job that waits for nodes that are down is told from one that can never start."""

from __future__ import annotations

import pytest
from fake_slurm import FakeSlurm

from antioversmooth.config import ClusterConfig, GpuRequest
from antioversmooth.orchestration.slurm.capacity import describe_wait

CONFIGURATION = "allocation failure: Requested node configuration is not available"
A100 = "a100,ib|gpu:a100:4(S:0-1)"
V100 = "v100|gpu:v100:2"
NODES = [
    f"gpu*|idle|up|{A100}",
    f"gpu*|drained|up|{A100}",
    f"gpu*|mixed|up|{V100}",
    f"gpu*|down*|up|{V100}",
    f"long|idle|up|{A100}",
    f"long|drained|up|{A100}",
    f"closed|idle|down|{A100}",
]


def waits(slurm: FakeSlurm, refused: str = CONFIGURATION, **facts: object) -> str:
    slurm.nodes(*NODES)
    return describe_wait(ClusterConfig(name="site", **facts), refused)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "up_and_total"),
    [
        ({"nodes": 4}, (2, 4)),
        ({"nodes": 3, "partition": "gpu"}, (2, 4)),
        ({"nodes": 3, "partition": "gpu,long"}, (2, 4)),
        ({"nodes": 2, "partition": "long,nosuch"}, (1, 2)),
        ({"nodes": 2, "partition": "gpu", "constraint": "a100"}, (1, 2)),
        ({"nodes": 2, "partition": "gpu", "constraint": "a100&ib"}, (1, 2)),
        ({"nodes": 2, "partition": "gpu", "gres": "gpu:v100", "gpus_per_node": 2}, (1, 2)),
        ({"nodes": 2, "partition": "gpu", "gpus_per_node": 4}, (1, 2)),
        ({"nodes": 2, "partition": "gpu", "gpu_type": "v100", "gpus_per_node": 2}, (1, 2)),
        ({"nodes": 3, "partition": "gpu", "gres": "gpu:2", "gpus_per_node": 2}, (2, 4)),
        ({"nodes": 3, "gpu_request": GpuRequest.with_node, "gpus_per_node": 8}, (2, 4)),
        ({"nodes": 1, "partition": "closed"}, (0, 1)),
    ],
)
def test_a_job_waits_for_nodes_that_fit_and_are_down(
    slurm: FakeSlurm, facts: dict[str, object], up_and_total: tuple[int, int]
) -> None:
    up, total = up_and_total
    expected = f"only {up} of the partition's {total} nodes that fit are up (sinfo -R says why)"
    assert waits(slurm, **facts) == f"{expected}; it waits for {facts['nodes']}"


@pytest.mark.parametrize(
    "facts",
    [
        {"nodes": 5},
        {"nodes": 3, "partition": "long"},
        {"nodes": 3, "partition": "gpu", "constraint": "a100"},
        {"nodes": 1, "partition": "gpu", "gpus_per_node": 8},
        {"nodes": 1, "partition": "gpu", "gres": "gpu:h100", "gpus_per_node": 1},
        {"nodes": 1, "partition": "nosuch"},
        # the nodes are up, so SLURM refuses something else
        {"nodes": 2, "partition": "gpu"},
    ],
)
def test_a_job_that_no_nodes_fit_is_refused(slurm: FakeSlurm, facts: dict[str, object]) -> None:
    assert waits(slurm, **facts) == ""


def test_other_refusals_are_no_wait(slurm: FakeSlurm) -> None:
    for refused in (
        "allocation failure: Invalid account or account/partition combination specified",
        "allocation failure: Required partition not available (inactive or drain)",
        "allocation failure: Invalid time specified",
    ):
        assert waits(slurm, refused, nodes=4) == ""


def test_a_reservation_that_begins_later_is_waited_for(slurm: FakeSlurm) -> None:
    said = waits(slurm, "allocation failure: Invalid time specified", sbatch={"reservation": "r1"})
    assert said.startswith("it waits for the reservation r1")


def test_nodes_of_which_a_wrapper_shows_less_count_as_fitting(slurm: FakeSlurm) -> None:
    slurm.nodes("Welcome to the cluster", "gpu*|idle", "gpu*|drained~")
    cluster = ClusterConfig(name="site", nodes=2, gpus_per_node=4, constraint="a100")
    assert "only 1 of the partition's 2 nodes" in describe_wait(cluster, CONFIGURATION)
