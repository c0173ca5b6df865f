"""Facts of a cluster in the words of SLURM's controller: version, configuration, limits."""

from __future__ import annotations

import getpass
import re
from collections.abc import Sequence
from dataclasses import dataclass

from antioversmooth.orchestration.slurm import commands


def version() -> str:
    """The version of the clients, as in `slurm-wlm 22.05.8`."""
    return commands.ask("sbatch", "--version").strip()


def configuration() -> dict[str, str]:
    """The controller's configuration, by SLURM's name of each value.

    Raises:
        LaunchError: The controller does not answer.
    """
    lines = commands.ask("scontrol", "show", "config").splitlines()
    pairs = (re.fullmatch(r"\s*(\w+)\s*=\s?(.*)", line) for line in lines)
    return {pair[1]: pair[2].strip() for pair in pairs if pair}


def partitions() -> list[dict[str, str]]:
    """The partitions that this user sees, each with its fields by SLURM's names.

    Raises:
        LaunchError: The controller does not answer.
    """
    lines = commands.ask("scontrol", "show", "partition", "--oneliner").splitlines()
    found = [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines]
    return [fields for fields in found if fields.get("PartitionName")]


def associations() -> list[dict[str, str]]:
    """This user's associations with accounts: Account, MaxJobs, MaxSubmit.

    Raises:
        LaunchError: There is no accounting, or it does not answer.
    """
    fields = ("Account", "MaxJobs", "MaxSubmit")
    return _listed(fields, fields, "associations", "where", f"user={getpass.getuser()}")


def qualities_of_service() -> list[dict[str, str]]:
    """All qualities of service: Name, and the limits of a user MaxJobs and MaxSubmit.

    Raises:
        LaunchError: There is no accounting, or it does not answer.
    """
    return _listed(("Name", "MaxJobs", "MaxSubmit"), ("Name", "MaxJobsPU", "MaxSubmitPU"), "qos")


def _listed(names: Sequence[str], fields: Sequence[str], *what: str) -> list[dict[str, str]]:
    """Rows of a list of sacctmgr, by names for its fields."""
    form = f"format={','.join(fields)}"
    said = commands.ask("sacctmgr", "--noheader", "--parsable2", "show", *what, form)
    rows = [line.split("|") for line in said.splitlines()]
    return [dict(zip(names, row, strict=True)) for row in rows if len(row) == len(names)]


def require_accounting() -> None:
    """Raises LaunchError where sacct does not answer."""
    commands.ask("sacct", "--allocations", "--noheader", "--starttime=now-1minutes")


_GONE = ("down", "drain", "fail", "maint", "unk", "inval", "future", "error")
"""Beginnings of the states of nodes that run no further job; `*` at the end: no response."""
# for example `gpu*|up|idle|a100,ib|gpu:a100:4(S:0-1)`; a site's wrapper may leave out the last ones
_NODE = re.compile(
    r"(?P<partition>[^|\s]+)\|(?P<state>[a-z_]+)(?P<mark>[^|\s]*)"
    r"(?:\|(?P<open>[a-z]+)\|(?P<features>[^|]*)\|(?P<gres>[^|]*))?"
)


@dataclass(frozen=True)
class Node:
    """A node as a part of one partition."""

    partition: str
    is_default: bool
    """Whether the partition is the cluster's default."""
    is_up: bool
    """Whether it may run a job now."""
    features: str | None
    """Separated by commas; None where SLURM does not tell."""
    gres: str | None
    """For example gpu:a100:4(S:0-1); None where SLURM does not tell."""


def nodes() -> list[Node]:
    """The nodes of each partition.

    Raises:
        LaunchError: The controller does not answer.
    """
    lines = commands.ask("sinfo", "--noheader", "--Node", "--format=%P|%T|%a|%f|%G")
    return [
        Node(
            partition=node["partition"].rstrip("*"),
            is_default=node["partition"].endswith("*"),
            is_up=not node["state"].startswith(_GONE)
            and "*" not in node["mark"]
            and node["open"] in ("up", None),
            features=node["features"],
            gres=node["gres"],
        )
        for node in commands.matches(_NODE, lines)
    ]
