"""The cluster part of a spec: where a run runs, and with which resources."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from antioversmooth.config.container import ContainerConfig
from antioversmooth.config.rules import Broken, Config, rule
from antioversmooth.constraints import (
    MISSING,
    Constraint,
    above,
    at_least,
    each,
    matches,
    not_blank,
    one_line,
    option,
)


class ProcessStarter(Enum):
    """The program that starts the processes of a SLURM job on its nodes."""

    srun = "srun"
    torchrun = "torchrun"


class GpuRequest(Enum):
    """The option by which a job asks for its GPUs."""

    per_node = "per_node"
    per_task = "per_task"
    tasks_per_gpu = "tasks_per_gpu"
    with_node = "with_node"


_OWN_OPTIONS = {
    "account", "array", "clusters", "constraint", "cpus-per-gpu", "cpus-per-task", "dependency",
    "error", "exclude", "export", "export-file", "gid", "gpus-per-node", "gpus-per-task", "gres",
    "help", "job-name", "mail-type", "mail-user", "mem", "no-requeue", "nodes", "ntasks",
    "ntasks-per-gpu", "ntasks-per-node", "open-mode", "output", "parsable", "partition", "qos",
    "quiet", "requeue", "signal", "test-only", "time", "uid", "usage", "version", "wait", "wrap",
}  # fmt: skip
"""sbatch options that have fields of their own here, or that the launcher sets."""
_OWN_SRUN_OPTIONS = {
    "container-image", "container-mounts", "cpus-per-gpu", "cpus-per-task", "error", "export",
    "help", "immediate", "input", "jobid", "kill-on-bad-exit", "multi-prog", "nodes", "ntasks",
    "ntasks-per-gpu", "ntasks-per-node", "open-mode", "output", "parsable", "pty",
    "quit-on-interrupt", "test-only", "unbuffered", "usage", "version", "wait",
}  # fmt: skip
"""srun options that the launcher sets, or with which no ranks start."""


def _is_one_of(own_options: set[str], option: str) -> bool:
    """Whether SLURM reads this, or what it abbreviates, as one of these options."""
    # an option itself, not the beginning of one
    return option not in ("gpus", "container") and any(
        own.startswith(option) for own in own_options
    )


_WORD = matches(
    r"[A-Za-z0-9_][A-Za-z0-9_.,:@+\[\]-]*", "letters, digits and _ . , : @ + - [ ], no leading dash"
)
"""A value that cannot become a second option, a directive or a command of the batch script."""
_TYPE = matches(r"[A-Za-z0-9_.-]*[A-Za-z_][A-Za-z0-9_.-]*", "the name of a type, without number")
_COMMAND = Constraint(
    lambda line: line.isprintable() and not line.lstrip().startswith("#"),
    "one shell command a line, no comments (#SBATCH would be a directive)",
    {"pattern": r"^(?!\s*#)[^\n\r]*$"},
)
_OPTION = r"[a-z][a-z0-9-]*"


def _expected_option(client: str, name: str, value: Any, own_options: set[str]) -> str | None:
    """The right values of a further option of a client; None where its value is right."""
    if not re.fullmatch(_OPTION, name):
        return f"a long option of {client}, without its dashes"
    if _is_one_of(own_options, name):
        return "a field of `cluster`, or the launcher, sets that already"
    if value is False:
        return "true, or the option left out"
    if value is not None and not isinstance(value, (str, int, float)):
        return "one word or number, true, or null"
    return None if str(value).isprintable() else "one line of text"


def _broken_options(client: str, options: dict[str, Any], own: set[str]) -> Iterator[Broken]:
    """Further options of a client that are none, or that no profile sets."""
    for name, value in options.items():
        if expected := _expected_option(client, str(name), value, own):
            blamed = value if re.fullmatch(_OPTION, str(name)) else name
            yield Broken(f"{client}.{name}", blamed, expected)


def _number(gres: str) -> int | None:
    """The number at the end of a generic resource: 4 of gpu:a100:4 and of gpu:4."""
    last = gres.rpartition(":")[2]
    return int(last) if ":" in gres and last.isdecimal() else None


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
    gpu_request: GpuRequest = GpuRequest.per_node
    """How a job asks for them. per_node: `--gpus-per-node`. per_task: `--gpus-per-task`, so that
    each task sees its own only. tasks_per_gpu: `--gpus-per-node` and `--ntasks-per-gpu=1`, where a
    site refuses `--ntasks-per-node`. with_node: by no option, where nodes come with their GPUs.
    With a `gres` of GPUs: that."""
    gpu_type: str | None = option(None, _TYPE)
    """Type of the GPUs, as in `--gpus-per-node=a100:4`; null: any."""
    gpu_mem_gb: float | None = option(None, above(0))
    """Memory of each GPU in GiB. With it `runtime.device_batch: 0` takes as many samples a pass as
    fit, which changes the order of sums only, and a launch refuses what does not fit; null: not
    compared."""
    tasks_per_node: int = option(1, at_least(1))
    """Processes per node where `gpus_per_node` is 0."""
    cpus_per_task: int = option(1, at_least(1))
    """CPUs per process."""
    cpus_per_gpu: int = option(0, at_least(0))
    """CPUs per GPU, where a site wants `--cpus-per-gpu` rather than `--cpus-per-task`; 0: none."""
    mem_gb: float = option(0, at_least(0))
    """Memory per node in GiB; 0: the partition's default."""
    mem_all: bool = False
    """Whether a job gets all memory of its nodes (`--mem=0`)."""
    exclusive: bool = False
    """Whether a job gets whole nodes (`--exclusive`); on many clusters it gets all of their memory
    with `mem_all` only."""
    time_min: int = option(1440, at_least(1))
    """Wall-clock limit of one job, in minutes. A run that needs longer is a chain of jobs."""
    partition: str | None = option(None, _WORD)
    """SLURM partition, or several (`gpu,gpu-long`), of which the first to have room gets the job;
    null: the cluster's default."""
    account: str | None = option(None, _WORD)
    """SLURM account; null: yours by default."""
    qos: str | None = option(None, _WORD)
    """SLURM quality of service; null: the account's default."""
    constraint: str | None = option(None, one_line())
    """SLURM node features, as in `--constraint` ("a100&ib")."""
    exclude: list[str] = option([], each(_WORD))
    """Nodes not to use: names, or ranges as `node[03-05]`."""
    gres: str | None = option(None, _WORD)
    """Generic resources, as in `--gres`: `gpu` or `gpu:a100` asks for `gpus_per_node` GPUs of each
    node in this way; others have their number (`gpu:a100,nvme:1`)."""
    mail_user: str | None = option(None, _WORD)
    """Address that SLURM writes to; null: no mail."""
    mail_type: list[str] = option(["FAIL"], each(_WORD))
    """Occasions for a mail, as in `--mail-type`: BEGIN, END, FAIL, REQUEUE, TIME_LIMIT."""
    notify: str | None = option(None, one_line())
    """A command that gets a JSON event on its standard input when a run is done, fails or is given
    up, and when a table that was followed ends; ANTIOVERSMOOTH_NOTIFY replaces it; null: none."""
    setup: list[str] = option([], each(_COMMAND))
    """Shell lines that the batch script runs before the job (module load ...); trusted, as your own
    shell start-up."""
    sbatch: dict[str, Any] = option({})
    """Further sbatch options, by long name without dashes; true for an option without a value, null
    for none."""
    srun: dict[str, Any] = option({})
    """Further options of srun, in the same form: `mpi: none`, `cpu-bind: cores`."""
    wrapper: list[str] = option([], each(one_line(), not_blank("a word")))
    """Words of a command that starts each process, as `[numactl, --localalloc]`: srun starts it,
    and the words behind it are Python's. A shell reads none of them."""
    container: ContainerConfig | None = None
    """The container that all processes of a job run in; null: none."""
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
    """Starts in a row, of any cause, that may end without a new checkpoint before a run is given
    up."""
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
        yield from _broken_options("sbatch", self.sbatch, _OWN_OPTIONS)

    @rule("srun")
    def _safe_srun_options(self) -> Iterator[Broken]:
        """No option may become another one, or a part of the command of the ranks."""
        yield from _broken_options("srun", self.srun, _OWN_SRUN_OPTIONS)

    @rule("mem_all", "mem_gb", "sbatch")
    def _one_amount_of_memory(self) -> Iterator[Broken]:
        per = next((name for name in ("mem-per-cpu", "mem-per-gpu") if self.sbatch.get(name)), None)
        if self.mem_all and self.mem_gb:
            yield Broken("mem_all", True, "all of it, or mem_gb of it", also=("mem_gb",))
        elif per and (self.mem_all or self.mem_gb):
            other = "mem_all" if self.mem_all else "mem_gb"
            yield Broken(f"sbatch.{per}", self.sbatch[per], f"that or {other}", also=(other,))

    @rule("cpus_per_gpu", "cpus_per_task", "gpus_per_node")
    def _cpus_of_one_thing(self) -> Iterator[Broken]:
        if self.cpus_per_gpu and self.cpus_per_task != 1:
            expected = "CPUs of a GPU or of a task: leave out one (cpus_per_task: 1)"
            yield Broken("cpus_per_gpu", self.cpus_per_gpu, expected, also=("cpus_per_task",))
        elif self.cpus_per_gpu and not self.gpus_per_node:
            expected = "0 without GPUs (gpus_per_node); cpus_per_task says the number then"
            yield Broken("cpus_per_gpu", self.cpus_per_gpu, expected, also=("gpus_per_node",))

    @rule("gpu_request", "gpu_type", "cpus_per_gpu")
    def _nothing_of_gpus_without_request(self) -> Iterator[Broken]:
        for name, empty in (("gpu_type", None), ("cpus_per_gpu", 0)):
            value = getattr(self, name)
            if self.gpu_request is GpuRequest.with_node and value != empty:
                expected = f"{'null' if empty is None else empty} where nodes come with their GPUs"
                yield Broken(name, value, expected, also=("gpu_request",))

    @rule("gpu_request", "starter", "gres")
    def _possible_gpu_request(self) -> Iterator[Broken]:
        wanted = self.gpu_request.value
        if self.gpu_request is GpuRequest.tasks_per_gpu and self.starter is ProcessStarter.torchrun:
            expected = "another option: torchrun has one task a node"
            yield Broken("gpu_request", wanted, expected, also=("starter",))
        elif self.gpu_request is not GpuRequest.per_node and self._gres_of_gpus is not None:
            expected = "per_node beside a gres that asks for the GPUs"
            yield Broken("gpu_request", wanted, expected, also=("gres",))

    @rule("gres", "gpus_per_node", "gpu_type")
    def _gres_agrees(self) -> Iterator[Broken]:
        part = self._gres_of_gpus
        if part and _number(part) not in (None, self.gpus_per_node):
            expected = (
                f"{part.rpartition(':')[0]}, without the number, which comes from gpus_per_node:"
                f" {self.gpus_per_node}"
            )
            yield Broken("gres", self.gres, expected, also=("gpus_per_node",))
        elif part and self.gpu_type:
            expected = "null beside a gres that asks for the GPUs"
            yield Broken("gpu_type", self.gpu_type, expected, also=("gres",))

    @property
    def _gres_of_gpus(self) -> str | None:
        """The part of `gres` that asks for GPUs: the one of that name, else one without number."""
        parts = self.gres.split(",") if self.gres else []
        named = (part for part in parts if part.partition(":")[0] == "gpu")
        return next(named, next((part for part in parts if _number(part) is None), None))

    @property
    def gres_request(self) -> str | None:
        """`--gres`, each part with its number; None without any."""
        gpus, parts = self._gres_of_gpus, self.gres.split(",") if self.gres else []
        if gpus:
            index = parts.index(gpus)
            bare = gpus if _number(gpus) is None else gpus.rpartition(":")[0]
            parts[index : index + 1] = (
                [f"{bare}:{self.gpus_per_node}"] if self.gpus_per_node else []
            )
        return ",".join(parts) or None

    @property
    def gpu_options(self) -> dict[str, str]:
        """Options of sbatch that ask for GPUs, but `--gres`."""
        if not self.gpus_per_node or self._gres_of_gpus:
            return {}
        kind = f"{self.gpu_type}:" if self.gpu_type else ""
        is_torchrun = self.starter is ProcessStarter.torchrun
        of_node = {"gpus-per-node": f"{kind}{self.gpus_per_node}"}
        of_task = self.gpus_per_node if is_torchrun else 1
        return {
            GpuRequest.per_node: of_node,
            GpuRequest.per_task: {"gpus-per-task": f"{kind}{of_task}"},
            # --gpus does not spread them evenly over nodes
            GpuRequest.tasks_per_gpu: {**of_node, "ntasks-per-gpu": "1"},
            GpuRequest.with_node: {},
        }[self.gpu_request]

    @property
    def processes_per_node(self) -> int:
        """Ranks per node: one per GPU, else `tasks_per_node`."""
        return self.gpus_per_node or self.tasks_per_node

    @property
    def world_size(self) -> int:
        """Ranks over all nodes."""
        return self.nodes * self.processes_per_node
