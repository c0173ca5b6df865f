"""Where and with what resources a run runs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from antioversmooth.config.checks import MISSING, Require, rules


class ProcessStarter(Enum):
    """Who starts the processes of a SLURM job on its nodes."""

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
"""sbatch options that a profile says by fields of its own, or that the launcher decides."""


def _is_own_option(option: str) -> bool:
    """Whether sbatch reads this as an option that is not a profile's to set; it takes
    abbreviations, too."""
    return option != "gpus" and any(own.startswith(option) for own in _OWN_OPTIONS)


def _is_line(text: str) -> bool:
    return text.isprintable()


@dataclass
class ClusterConfig:
    """Where and with what resources runs run. A site's own file beside
    `experiments/cluster/default.yaml` fills it."""

    name: str = MISSING
    """Name of this profile, as in `--cluster NAME`."""
    nodes: int = 1
    """Nodes per run."""
    gpus_per_node: int = 0
    """GPUs per node, and tasks per node (a node without GPUs: see `tasks_per_node`)."""
    tasks_per_node: int = 1
    """Processes per node where `gpus_per_node` is 0."""
    cpus_per_task: int = 1
    """CPUs per process."""
    mem_gb: float = 0
    """Memory per node in GiB; 0: the partition's default."""
    time_min: int = 1440
    """Wall-clock limit of one job, in minutes. A run that needs longer is a chain of jobs."""
    partition: str | None = None
    """SLURM partition; null: the cluster's default."""
    account: str | None = None
    """SLURM account; null: yours by default."""
    qos: str | None = None
    """SLURM quality of service; null: the account's default."""
    constraint: str | None = None
    """SLURM node features, as in `--constraint` ("a100&ib")."""
    exclude: list[str] = field(default_factory=list)
    """Nodes not to use: names, or ranges as `node[03-05]`."""
    gres: str | None = None
    """Ask for GPUs as `--gres=<gres>:<gpus_per_node>` (gpu, or gpu:a100) rather than
    `--gpus-per-node`."""
    mail_user: str | None = None
    """Address that SLURM writes to; null: no mail."""
    mail_type: list[str] = field(default_factory=lambda: ["FAIL"])
    """Occasions for a mail, as in `--mail-type`: BEGIN, END, FAIL, REQUEUE, TIME_LIMIT."""
    setup: list[str] = field(default_factory=list)
    """Shell lines that the batch script runs before the job (module load ...); trusted, as your own
    shell start-up."""
    sbatch: dict[str, Any] = field(default_factory=dict)
    """Further sbatch options, by long name without dashes; true for an option without a value, null
    for none."""
    starter: ProcessStarter = ProcessStarter.srun
    """srun: one task for each process. torchrun: one torchrun agent a node, which starts its
    processes."""
    signal_delay_s: int = 180
    """Seconds before the time limit at which the job is told to save and requeue. SLURM may be 60 s
    early."""
    requeue: bool = True
    """Whether this cluster lets a job go back into the queue under its own id; false: it submits
    its successor."""
    max_crashes: int = 3
    """Attempts without a named cause (crash, hang, out of memory) after which a run is given up."""
    max_without_progress: int = 3
    """Attempts in a row, of any cause, that may end without a new checkpointed step before a run is
    given up."""
    results: str | None = None
    """Folder for runs and tables, on a file system that all nodes see; null: `results/` of the
    checkout."""
    max_parallel: int = 0
    """Local back end: runs side by side; 0: as many as CPUs (or GPUs) allow."""

    def __post_init__(self) -> None:
        with rules() as require:
            for key in (
                "nodes",
                "tasks_per_node",
                "cpus_per_task",
                "time_min",
                "max_crashes",
                "max_without_progress",
            ):
                require(
                    getattr(self, key) > 0,
                    f"cluster.{key}",
                    getattr(self, key),
                    "a positive whole number",
                )
            for key in ("gpus_per_node", "mem_gb", "max_parallel"):
                require(getattr(self, key) >= 0, f"cluster.{key}", getattr(self, key), "0 or more")
            require(
                0 < self.signal_delay_s < 60 * self.time_min,
                "cluster.signal_delay_s",
                self.signal_delay_s,
                f"above 0 and below the time limit of {60 * self.time_min} s (cluster.time_min)",
            )
            self._require_safe_words(require)

    def _require_safe_words(self, require: Require) -> None:
        """No value may become a second option, a directive or a command of the batch script."""
        words = {
            key: getattr(self, key) for key in ("partition", "account", "qos", "gres", "mail_user")
        }
        words |= {f"exclude[{i}]": node for i, node in enumerate(self.exclude)}
        words |= {f"mail_type[{i}]": kind for i, kind in enumerate(self.mail_type)}
        for key, word in words.items():
            fits = (
                word is None
                or re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.,:@+\[\]-]*", word) is not None
            )
            require(
                fits,
                f"cluster.{key}",
                word,
                "letters, digits and _ . , : @ + - [ ], no leading dash",
            )
        require(
            (self.constraint or "").isprintable(),
            "cluster.constraint",
            self.constraint,
            "one line of text",
        )
        for i, line in enumerate(self.setup):
            fits = line.isprintable() and not line.lstrip().startswith("#")
            right = "one shell command a line, no comments (#SBATCH would be a directive)"
            require(fits, f"cluster.setup[{i}]", line, right)
        for option, value in self.sbatch.items():
            key = f"cluster.sbatch.{option}"
            named = re.fullmatch(r"[a-z][a-z0-9-]*", str(option)) is not None
            require(named, key, option, "a long option of sbatch, without its dashes")
            taken = named and _is_own_option(str(option))
            require(
                not taken, key, value, "a field of `cluster`, or the launcher, says that already"
            )
            require(value is not False, key, value, "true, or the option left out")
            is_word = value is None or isinstance(value, (str, int, float))
            require(is_word, key, value, "one word or number, true, or null")
            require(not is_word or str(value).isprintable(), key, value, "one line of text")

    @property
    def processes_per_node(self) -> int:
        """Ranks per node: one per GPU, else `tasks_per_node`."""
        return self.gpus_per_node or self.tasks_per_node

    @property
    def world_size(self) -> int:
        """Ranks over all nodes."""
        return self.nodes * self.processes_per_node
