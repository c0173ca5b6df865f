"""The cluster part of a spec: where a run runs, and with which resources."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from antioversmooth.config.constraints import (
    MISSING,
    Constraint,
    above,
    at_least,
    each,
    matches,
    one_line,
    option,
)
from antioversmooth.config.rules import Broken, Config, rule


class ProcessStarter(Enum):
    """The program that starts the processes of a SLURM job on its nodes."""

    srun = "srun"
    torchrun = "torchrun"


_OWN_OPTIONS = {
    "account", "array", "chdir", "clusters", "constraint", "cpus-per-task", "dependency", "error",
    "exclude", "export",
    "export-file", "gid", "gpus-per-node", "gres", "help", "job-name", "mail-type", "mail-user",
    "mem", "no-requeue",
    "nodes", "ntasks", "ntasks-per-node", "open-mode", "output", "parsable", "partition", "qos",
    "quiet", "requeue",
    "signal", "test-only", "time", "uid", "usage", "version", "wait", "wrap",
}  # fmt: skip
"""sbatch options that have fields of their own here, or that the launcher sets."""


def _is_own_option(option: str) -> bool:
    """Whether sbatch reads this, or what it abbreviates, as an option that no profile sets."""
    return option != "gpus" and any(own.startswith(option) for own in _OWN_OPTIONS)


_WORD = matches(
    r"[A-Za-z0-9_][A-Za-z0-9_.,:@+\[\]-]*", "letters, digits and _ . , : @ + - [ ], no leading dash"
)
"""A value that cannot become a second option, a directive or a command of the batch script."""
_COMMAND = Constraint(
    lambda line: line.isprintable() and not line.lstrip().startswith("#"),
    "one shell command a line, no comments (#SBATCH would be a directive)",
    {"pattern": r"^(?!\s*#)[^\n\r]*$"},
)
_OPTION = r"[a-z][a-z0-9-]*"


def _expected_sbatch(name: str, value: Any) -> str | None:
    """The right values of an sbatch option; None where its value is right."""
    if not re.fullmatch(_OPTION, name):
        return "a long option of sbatch, without its dashes"
    if _is_own_option(name):
        return "a field of `cluster`, or the launcher, sets that already"
    if value is False:
        return "true, or the option left out"
    if value is not None and not isinstance(value, (str, int, float)):
        return "one word or number, true, or null"
    return None if str(value).isprintable() else "one line of text"


@dataclass
class ClusterConfig(Config, section="cluster"):
    """Where runs run, and with which resources. A site adds its own file next to
    `experiments/cluster/default.yaml`."""

    name: str = MISSING
    """Name of this profile, as in `--cluster NAME`."""
    nodes: int = option(1, at_least(1))
    """Nodes per run."""
    gpus_per_node: int = option(0, at_least(0))
    """GPUs per node, and tasks per node (a node without GPUs: see `tasks_per_node`)."""
    tasks_per_node: int = option(1, at_least(1))
    """Processes per node where `gpus_per_node` is 0."""
    cpus_per_task: int = option(1, at_least(1))
    """CPUs per process."""
    mem_gb: float = option(0, at_least(0))
    """Memory per node in GiB; 0: the partition's default."""
    time_min: int = option(1440, at_least(1))
    """Wall-clock limit of one job, in minutes. A run that needs longer is a chain of jobs."""
    partition: str | None = option(None, _WORD)
    """SLURM partition; null: the cluster's default."""
    account: str | None = option(None, _WORD)
    """SLURM account; null: yours by default."""
    qos: str | None = option(None, _WORD)
    """SLURM quality of service; null: the account's default."""
    constraint: str | None = option(None, one_line())
    """SLURM node features, as in `--constraint` ("a100&ib")."""
    exclude: list[str] = option([], each(_WORD))
    """Nodes not to use: names, or ranges as `node[03-05]`."""
    gres: str | None = option(None, _WORD)
    """Ask for GPUs as `--gres=<gres>:<gpus_per_node>` (gpu, or gpu:a100) rather than
    `--gpus-per-node`."""
    mail_user: str | None = option(None, _WORD)
    """Address that SLURM writes to; null: no mail."""
    mail_type: list[str] = option(["FAIL"], each(_WORD))
    """Occasions for a mail, as in `--mail-type`: BEGIN, END, FAIL, REQUEUE, TIME_LIMIT."""
    setup: list[str] = option([], each(_COMMAND))
    """Shell lines that the batch script runs before the job (module load ...); trusted, as your own
    shell start-up."""
    sbatch: dict[str, Any] = option({})
    """Further sbatch options, by long name without dashes; true for an option without a value, null
    for none."""
    starter: ProcessStarter = ProcessStarter.srun
    """srun: one task for each process. torchrun: one torchrun agent a node, which starts its
    processes."""
    signal_delay_s: int = option(180, above(0))
    """Seconds before the time limit at which the job gets the signal to save and requeue. SLURM may
    send it 60 s early."""
    requeue: bool = True
    """Whether this cluster lets a job go back into the queue under its own id; false: it submits
    its successor."""
    max_crashes: int = option(3, at_least(1))
    """Attempts without a named cause (crash, hang, out of memory) after which a run is given up."""
    max_without_progress: int = option(3, at_least(1))
    """Attempts in a row, of any cause, that may end without a new checkpointed step before a run is
    given up."""
    results: str | None = option(None, path=True)
    """Folder for runs and tables, on a file system that all nodes see; null: `results/` of the
    checkout."""
    max_queued: int = option(0, at_least(0))
    """Jobs of one launch that are in SLURM's queue at a time, waiting and running; 0: all of them.
    The others wait, and `--follow` or the next launch submits them."""
    max_parallel: int = option(0, at_least(0))
    """Local back end: runs side by side; 0: as many as CPUs (or GPUs) allow."""

    @rule("signal_delay_s", "time_min")
    def _signal_before_the_limit(self) -> Iterator[Broken]:
        limit_s = 60 * self.time_min
        if self.signal_delay_s >= limit_s:
            expected = f"above 0 and below the time limit of {limit_s} s (cluster.time_min)"
            yield Broken("signal_delay_s", self.signal_delay_s, expected, also=("time_min",))

    @rule("sbatch")
    def _safe_sbatch_options(self) -> Iterator[Broken]:
        """No option may become another one, a directive or a command of the batch script."""
        for name, value in self.sbatch.items():
            if expected := _expected_sbatch(str(name), value):
                blamed = value if re.fullmatch(_OPTION, str(name)) else name
                yield Broken(f"sbatch.{name}", blamed, expected)

    @property
    def processes_per_node(self) -> int:
        """Ranks per node: one per GPU, else `tasks_per_node`."""
        return self.gpus_per_node or self.tasks_per_node

    @property
    def world_size(self) -> int:
        """Ranks over all nodes."""
        return self.nodes * self.processes_per_node
