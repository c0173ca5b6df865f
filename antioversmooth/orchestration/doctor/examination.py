"""All checks in their order: this machine's, then the probes on the nodes."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from antioversmooth.config import ClusterConfig
from antioversmooth.errors import LaunchError, error_message
from antioversmooth.finding import Finding, Level
from antioversmooth.orchestration.devices import Placement
from antioversmooth.orchestration.doctor import (
    clients,
    inputs,
    job,
    limits,
    processes,
    shell,
    storage,
)
from antioversmooth.orchestration.doctor.gathering import Progress, gather
from antioversmooth.orchestration.doctor.site import Check, Site, examine, found_on_login
from antioversmooth.orchestration.slurm.script import run_paths
from antioversmooth.runs import Run
from antioversmooth.runs.code import running_code

ON_SLURM: dict[str, Check] = {
    "SLURM's commands": clients.clients,
    "partition": limits.partitions,
    "account": limits.accounts,
    "sbatch --test-only": limits.acceptance,
    "requeue": limits.requeue,
}
EVERYWHERE: dict[str, Check] = {
    "results folder": storage.results_folder,
    "Python": storage.python,
    "shell": shell.variables,
    "profile": inputs.profile,
    "data": inputs.data,
    "files of weights": inputs.weights,
}
NEEDED_FOR_JOB = {"SLURM's commands", "sbatch --test-only", "results folder", "partition"}
"""Checks without which the job cannot run."""
PROBE_LIMIT_S = 60.0
"""Seconds after which a probe counts as hung."""
SIGNAL_WAIT_S = 90.0
"""Seconds that a rank waits for the warning signal, others' slower probes included."""


def login_findings(site: Site) -> Iterator[Finding]:
    """Findings of this machine."""
    for name, check in {**(ON_SLURM if site.on_slurm else {}), **EVERYWHERE}.items():
        yield from examine(site, name, check)


def doctor_folder(results: Path) -> Path:
    """Folder of measured speeds, and of probes that found something wrong."""
    return results / "doctor"


@dataclass
class Examination:
    """The examination of the nodes, or of this machine in their place."""

    site: Site
    wait_min: float
    """Minutes after which it is ended: a job that has not started, or processes."""
    say: Callable[[str], None]
    """Shows a line of progress."""
    nodes: str = field(default="", init=False)
    """Nodes that were examined, in SLURM's words or as the name of this machine."""

    _ranks: int = field(default=0, init=False)

    def by_job(self, found: Sequence[Finding]) -> Iterator[Finding]:
        """Findings of a job on the profile's nodes.

        Args:
            found: Those of this machine; with some of them wrong no job can run.
        """
        wrong = {one.check for one in found if one.level is Level.wrong} & NEEDED_FOR_JOB
        if wrong:
            text = f"not submitted, since this is wrong: {', '.join(sorted(wrong))}"
            yield found_on_login("job", Level.wrong, text, "mend that first")
            return
        yield from self._in_folder(self._run_job)

    def by_processes(self, placement: Placement, gpus: Sequence[str]) -> Iterator[Finding]:
        """Findings of processes of this machine, placed as a run's."""
        return self._in_folder(partial(self._run_processes, placement, gpus))

    def _in_folder(self, run: Callable[[Path], list[Finding]]) -> Iterator[Finding]:
        """Findings that are made in a folder, which stays if one of them is wrong.

        Raises:
            KeyboardInterrupt: As `run` does, after what it had found until then.
        """
        name = f"{self.site.cluster.name}-{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 10**6}"
        folder = doctor_folder(self.site.results).absolute() / name
        try:
            folder.mkdir(parents=True)
        except OSError as err:
            text = f"nothing is examined, since they write here: {error_message(err)}"
            advice = "choose another folder with cluster.results=/path"
            yield found_on_login("probes", Level.wrong, text, advice)
            return
        try:
            found = run(folder)
        except KeyboardInterrupt:
            found = gather(folder, self._ranks, ended=False)
            self._leave(folder, found)
            yield from found
            raise
        self._leave(folder, found)
        yield from found

    def _leave(self, folder: Path, found: Sequence[Finding]) -> None:
        """Removes the folder of the probes unless they found something wrong."""
        if any(one.level is Level.wrong for one in found):
            self.say(f"logs of the probes: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)

    def _paths(self) -> list[Path]:
        """The files and folders that the probes read or write."""
        return [self.site.results, *(path for run in self.site.runs for path in run_paths(run))]

    def _run_job(self, folder: Path) -> list[Finding]:
        cluster = self.site.cluster
        self._write_request(folder, cluster)
        try:
            end = job.run_job(
                cluster,
                folder,
                num_models=len(one_of_each_model(self.site.runs)),
                wait_min=self.wait_min,
                say=self.say,
                paths=self._paths(),
            )
        except LaunchError as err:
            return [found_on_login("job", Level.wrong, str(err))]
        self.nodes = end.nodes
        if end.problem:
            text = f"job {end.id}: {end.problem}"
            problem = found_on_login("job", Level.wrong, text, end.advice)
            return [
                problem,
                *(gather(folder, cluster.world_size, ended=False) if end.nodes else []),
            ]
        found = gather(folder, cluster.world_size, ended=True)
        missing = list(job.missing_turn(folder, end))
        found += missing
        # a job that did not begin says more than its silent ranks
        if {"job", "setup"} & {finding.check for finding in found}:
            return [finding for finding in found if finding.check != "ranks"]
        return found

    def _run_processes(
        self, placement: Placement, gpus: Sequence[str], folder: Path
    ) -> list[Finding]:
        count = placement.processes
        # nothing of the profile holds on this machine but what a run would take
        here = ClusterConfig(
            name=self.site.cluster.name,
            gpus_per_node=count if placement.on_gpu else 0,
            tasks_per_node=count,
            cpus_per_task=1,
        )
        self._write_request(folder, here)
        self.nodes = socket.gethostname()
        self.say(f"probing {placement.device} of {self.nodes}")
        used = list(gpus)[:count] if placement.on_gpu else []
        progress = Progress(folder, self.say)
        problem = processes.run_processes(
            folder, count, used, wait_min=self.wait_min, progress=progress
        )
        found = gather(folder, count, ended=not problem)
        return [*found, *([found_on_login("probes", Level.wrong, problem)] if problem else [])]

    def _write_request(self, folder: Path, cluster: ClusterConfig) -> None:
        """Writes what the ranks probe: of the runs, one for each model."""
        self._ranks = cluster.world_size
        # a room that is imported where it is used: it belongs to the nodes
        from antioversmooth.training.probes.request import ProbeRequest

        copies = []
        for run in one_of_each_model(self.site.runs):
            copies.append(replace(run, dir=folder / "runs" / run.experiment.name / run.dir.name))
            copies[-1].prepare()
        directories = [str(copy.dir) for copy in copies]
        request = ProbeRequest.of(
            cluster,
            runs=directories,
            code=running_code()[0],
            limit_s=PROBE_LIMIT_S,
            signal_wait_s=SIGNAL_WAIT_S,
        )
        request.write(folder)


def one_of_each_model(runs: Sequence[Run]) -> list[Run]:
    """The first run of each model and data set, in order."""
    found: dict[str, Run] = {}
    for run in runs:
        found.setdefault(repr((run.experiment.model, run.experiment.data)), run)
    return list(found.values())
