"""Batch scripts, rendered without SLURM, byte for byte as they are later submitted.

submitit renders the directives and the srun line. Nothing is pickled: every task of a run is
started with the run directory as its only argument, so a job holds no state, and one that was
queued by a launcher that died is as good as any other.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from antioversmooth.config import ClusterConfig, ContainerRuntime, ProcessStarter
from antioversmooth.errors import LaunchError
from antioversmooth.orchestration.slurm import container
from antioversmooth.orchestration.slurm.shell import (
    ASKS_SLURM,
    MASTER,
    lines_after,
    lines_before,
    srun_line,
)
from antioversmooth.runs import Run


def job_name(run: Run) -> str:
    """The name of every job of a run directory, by which the job is found in the queue."""
    readable = re.sub(r"[^A-Za-z0-9_.-]", "_", run.experiment.name)
    token = hashlib.sha256(f"{run.id} {run.dir.absolute()}".encode()).hexdigest()[:12]
    return f"{readable}-seed{run.seed}-{token}"


def job_folder(run: Run) -> Path:
    """Where the script and the raw output of the run's jobs lie."""
    return run.dir.absolute() / "slurm"


@dataclass(frozen=True)
class BatchJob:
    """A job in the terms of this project."""

    name: str
    folder: Path
    """Where the raw output of the job goes."""
    cluster: ClusterConfig
    code: Path
    """The copy of the package that the job runs."""
    program: Sequence[str]
    """Words after the Python interpreter that each rank runs."""
    wait_s: int
    """Seconds that the other tasks may go on after the first one has ended."""
    after: Sequence[str] = ()
    """Words after the Python interpreter that run once at the end, followed by the exit code of
    srun and the time when the job started, in seconds since 1970; empty: none."""
    paths: Sequence[Path] = ()
    """Further files and folders that the job reads or writes: a container has to show them."""


def sbatch_script(run: Run, snapshot: Path) -> str:
    """The script of a run that sbatch is given.

    Args:
        snapshot: The copy of the package that the job runs.

    Raises:
        LaunchError: SLURM or a shell would read a path as something else.
    """
    directory = _readable_by_slurm(run.dir.absolute())
    job = BatchJob(
        name=job_name(run),
        folder=job_folder(run),
        cluster=run.experiment.cluster,
        code=snapshot,
        program=["-m", "antioversmooth.orchestration.slurm.rank", directory],
        wait_s=int(run.experiment.runtime.timeout_s),
        after=["-m", "antioversmooth.orchestration.slurm.epilogue", directory],
        paths=run_paths(run),
    )
    return render(job)


def run_paths(run: Run) -> list[Path]:
    """The files and folders that a run reads or writes."""
    experiment = run.experiment
    origins = (experiment.recipe.init_from, experiment.recipe.teacher)
    kinds = [(origin or "").partition(":") for origin in origins]
    files = [path for kind, _, path in kinds if kind == "file"]
    data = [path for path in (experiment.data.root,) if path]
    results = [run.dir.parents[2]] if run.dir.parents[1].name == "runs" else []
    return [run.dir, *results, *(one.dir for one in run.dependencies), *map(Path, [*files, *data])]


def render(job: BatchJob) -> str:
    """The script of a job.

    Raises:
        LaunchError: SLURM or a shell would read a path as something else.
    """
    # a second to import; a help text needs none of it
    from submitit import SlurmExecutor

    class Renderer(SlurmExecutor):
        """submitit's executor where it only renders: it needs no srun on this machine."""

        @classmethod
        def affinity(cls) -> int:
            return 1

    code = _readable_by_slurm(job.code.absolute())
    folder = _readable_by_slurm(job.folder)
    renderer = Renderer(folder=folder)
    renderer.update_parameters(
        **_options(job),
        setup=lines_before(shlex.quote(code), shlex.quote(folder), job.cluster.setup),
        use_srun=False,
        teardown=lines_after(shlex.quote(code), *_end(job)),
    )
    command = srun_line(shlex.quote(code), _srun_options(job, folder), _program(job))
    return f"{renderer._make_submission_file_text(command, uid='')}\n"


def _options(job: BatchJob) -> dict[str, Any]:
    cluster = job.cluster
    requeue = {"requeue": True} if cluster.requeue else {"no-requeue": True}
    given = {
        "job_name": job.name,
        "time": cluster.time_min,
        "signal_delay_s": cluster.signal_delay_s,
        "mem": _memory(cluster),
        "partition": cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
        "constraint": cluster.constraint,
        "exclude": ",".join(cluster.exclude) or None,
        "mail_user": cluster.mail_user,
        "mail_type": ",".join(cluster.mail_type) if cluster.mail_user else None,
        "additional_parameters": (
            _requests(cluster)
            | {k: v for k, v in cluster.sbatch.items() if v is not None}
            | requeue
        ),
    }
    known = {key: value for key, value in given.items() if value is not None}
    # submitit's own default for a wckey is refused by clusters that check them
    return known | {"nodes": cluster.nodes, "gres": cluster.gres_request, "wckey": None}


def _memory(cluster: ClusterConfig) -> str | None:
    if cluster.mem_all:
        return "0"
    return f"{round(cluster.mem_gb * 1024)}M" if cluster.mem_gb else None


def _requests(cluster: ClusterConfig) -> dict[str, Any]:
    """Tasks, CPUs and GPUs."""
    options: dict[str, Any] = dict(cluster.gpu_options)
    if "ntasks-per-gpu" not in options:
        is_torchrun = cluster.starter is ProcessStarter.torchrun
        options["ntasks-per-node"] = 1 if is_torchrun else cluster.processes_per_node
    if cluster.cpus_per_gpu:
        options["cpus-per-gpu"] = cluster.cpus_per_gpu
    else:
        options["cpus-per-task"] = _task_cpus(cluster)
    return options | ({"exclusive": True} if cluster.exclusive else {})


def _srun_options(job: BatchJob, folder: str) -> list[str]:
    """Options of srun: all that decides how ranks start, since variables decide otherwise."""
    cluster = job.cluster
    tasks = cluster.nodes if cluster.starter is ProcessStarter.torchrun else cluster.world_size
    # since SLURM 22.05 srun does not take the CPUs of a task over from sbatch
    cpus = [] if cluster.cpus_per_gpu else [f"--cpus-per-task={_task_cpus(cluster)}"]
    further = [
        f"--{name}" if value is True else f"--{name}={value}"
        for name, value in cluster.srun.items()
        if value is not None
    ]
    return [
        "--unbuffered",
        "--export=ALL",
        f"--nodes={cluster.nodes}",
        f"--ntasks={tasks}",
        *cpus,
        # without these a dead rank leaves the others waiting until the time limit
        "--kill-on-bad-exit=1",
        f"--wait={job.wait_s}",
        "--open-mode=append",
        f"--output={folder}/%j_%t_log.out",
        f"--error={folder}/%j_%t_log.err",
        *further,
        *container.srun_options(cluster.container, _shown(job)),
    ]


def _task_cpus(cluster: ClusterConfig) -> int:
    """CPUs of a task: a torchrun agent holds those of all its processes."""
    processes = cluster.processes_per_node if cluster.starter is ProcessStarter.torchrun else 1
    return cluster.cpus_per_task * processes


def _program(job: BatchJob) -> str:
    """The command of each task."""
    cluster, python = job.cluster, _python(job)
    if cluster.starter is ProcessStarter.srun:
        return shlex.join([*cluster.wrapper, *_inside(job, [python, "-u", *job.program])])
    agent = [python, "-u", "-m", "torch.distributed.run", f"--nnodes={cluster.nodes}"]
    agent += [f"--nproc-per-node={cluster.processes_per_node}", "--rdzv-backend=c10d"]
    # By itself the agent dies of USR2, and its processes with it, before they have saved.
    agent += ["--signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR2"]
    meeting = f'--rdzv-id="$SLURM_JOB_ID.${{SLURM_RESTART_COUNT:-0}}" --rdzv-endpoint={MASTER}'
    before = shlex.join([*cluster.wrapper, *_inside(job, agent)])
    return f"{before} {meeting} {shlex.join(job.program)}"


def _end(job: BatchJob) -> list[str]:
    """The command at the end of the script, and what runs it in a container.

    Pyxis has a container in a step only, and a job that is ending starts none.
    """
    used = job.cluster.container
    if not job.after:
        return [""]
    on_node = shlex.join([sys.executable, *job.after])
    if used is None or used.runtime is ContainerRuntime.pyxis:
        return [on_node]
    inside = ([_python(job), *job.after], ASKS_SLURM)
    return [on_node, *(shlex.join(_inside(job, command)) for command in inside)]


def _python(job: BatchJob) -> str:
    return job.cluster.container.python if job.cluster.container else sys.executable


def _inside(job: BatchJob, command: Sequence[str]) -> list[str]:
    """The words of a command, in the container of the profile where it has one."""
    cluster = job.cluster
    if cluster.container is None:
        return [*command]
    code = str(job.code.absolute())
    return container.in_container(
        cluster.container, command, code, _shown(job), cluster.gpus_per_node
    )


def _shown(job: BatchJob) -> list[Path]:
    """All that a container has to show of the node."""
    return [job.code, job.folder, *job.paths]


def _readable_by_slurm(path: Path) -> str:
    """The path, if sbatch, srun and bash all read it as it is written.

    SLURM expands % and \\ in file names, and its reading of quotes in directives differs from a
    shell's.
    """
    text = str(path)
    if not text.isprintable() or set(text) & set("%\\'\""):
        raise LaunchError(
            f"SLURM cannot use the path {text!r}: move it to a path without %, \\, quotes and line"
            " ends"
        )
    return text
