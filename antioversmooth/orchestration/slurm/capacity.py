"""Jobs that SLURM would queue, though it cannot start them now and `--test-only` refuses them."""

from __future__ import annotations

import re
from collections import Counter

from antioversmooth.config import ClusterConfig, GpuRequest
from antioversmooth.orchestration.slurm import facts
from antioversmooth.orchestration.slurm.facts import Node


def describe_wait(cluster: ClusterConfig, refused: str) -> str:
    """The nodes or the reservation that a job would wait for; empty if it can never start.

    Args:
        refused: SLURM's answer to `--test-only`.
    """
    reservation = cluster.sbatch.get("reservation")
    if reservation is not None and "Invalid time specified" in refused:
        begins = "which does not hold now (scontrol show reservation)"
        return f"it waits for the reservation {reservation}, {begins}"
    if not re.search("node.* not available", refused, re.IGNORECASE):
        return ""
    up, total = _largest_partition(cluster)
    if not up < cluster.nodes <= total:
        return ""
    up_now = f"only {up} of the partition's {total} nodes that fit are up (sinfo -R says why)"
    return f"{up_now}; it waits for {cluster.nodes}"


def _largest_partition(cluster: ClusterConfig) -> tuple[int, int]:
    """How many nodes that fit are up, and how many there are, in one of the job's partitions.

    A job runs in one partition of its list: that with the most nodes counts.
    """
    up: Counter[str] = Counter()
    total: Counter[str] = Counter()
    wanted = (cluster.partition or "").split(",")
    for node in facts.nodes():
        is_wanted = node.partition in wanted if cluster.partition else node.is_default
        if is_wanted and _fits(cluster, node):
            total[node.partition] += 1
            up[node.partition] += node.is_up
    return max(((up[name], total[name]) for name in total), key=lambda c: c[::-1], default=(0, 0))


def _fits(cluster: ClusterConfig, node: Node) -> bool:
    """Whether a node has the features and GPUs of a job, as far as SLURM tells."""
    words = (cluster.constraint or "").split("&")
    is_plain = all(re.fullmatch(r"[\w.-]+", word) for word in words)
    if is_plain and node.features is not None and not set(words) <= {*node.features.split(",")}:
        return False
    is_asked = cluster.gpus_per_node and cluster.gpu_request is not GpuRequest.with_node
    return (
        not is_asked or node.gres is None or _num_gpus(cluster, node.gres) >= cluster.gpus_per_node
    )


def _num_gpus(cluster: ClusterConfig, gres: str) -> int:
    """GPUs of a node, of the type that the job asks for."""
    kind = cluster.gpu_type or "".join((cluster.gres or "").split(":")[1:2])
    found = re.findall(r"\bgpu:(?:([\w.-]*[A-Za-z_][\w.-]*):)?(\d+)", gres)
    is_type = bool(re.search("[A-Za-z_]", kind))
    return sum(int(number) for name, number in found if not is_type or kind == name)
