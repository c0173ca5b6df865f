"""Facts of a cluster in the words of SLURM's controller: version, configuration, limits."""

from __future__ import annotations

import getpass
import re
from collections.abc import Sequence

from antioversmooth.orchestration.slurm import client


def version() -> str:
    """The version of the clients, as in `slurm-wlm 22.05.8`."""
    return client.ask("sbatch", "--version").strip()


def configuration() -> dict[str, str]:
    """The controller's configuration, by SLURM's name of each value.

    Raises:
        LaunchError: The controller does not answer.
    """
    lines = client.ask("scontrol", "show", "config").splitlines()
    pairs = (re.fullmatch(r"\s*(\w+)\s*=\s?(.*)", line) for line in lines)
    return {pair[1]: pair[2].strip() for pair in pairs if pair}


def partitions() -> list[dict[str, str]]:
    """The partitions that this user sees, each with its fields by SLURM's names.

    Raises:
        LaunchError: The controller does not answer.
    """
    lines = client.ask("scontrol", "show", "partition", "--oneliner").splitlines()
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
    said = client.ask("sacctmgr", "--noheader", "--parsable2", "show", *what, form)
    rows = [line.split("|") for line in said.splitlines()]
    return [dict(zip(names, row, strict=True)) for row in rows if len(row) == len(names)]


def require_accounting() -> None:
    """Raises LaunchError where sacct does not answer."""
    client.ask("sacct", "--allocations", "--noheader", "--starttime=now-1minutes")
