"""Which back end starts the runs, and what every back end gives back."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from antioversmooth.config import Experiment
from antioversmooth.errors import LaunchError
from antioversmooth.orchestration import devices
from antioversmooth.orchestration.devices import Placement
from antioversmooth.runs import Run


class Backend(Enum):
    """How runs are started."""

    slurm = "slurm"
    local = "local"
    inline = "inline"


@dataclass(frozen=True)
class Choice:
    """A back end, and why it is this one."""

    backend: Backend
    reason: str


class Outcome(Enum):
    """The outcome of a run in one launch."""

    done = "done"
    submitted = "submitted"
    stopped = "stopped"
    """It ended early, and the next launch resumes it."""
    missing = "missing"
    """It never began."""
    failed = "failed"
    blocked = "blocked"
    """A run that it depends on did not complete."""


def untrusted_outcomes(runs: Sequence[Run]) -> dict[str, Outcome]:
    """Outcomes, by run id, of runs whose result is invalid, and of those that depend on them.

    Args:
        runs: Dependencies first.
    """
    outcomes: dict[str, Outcome] = {}
    for run in runs:
        if run.invalid_result_reason():
            outcomes[run.id] = Outcome.failed
        elif any(needed.id in outcomes for needed in run.dependencies) and run.result() is None:
            outcomes[run.id] = Outcome.blocked
    return outcomes


def stopped_outcome(run: Run) -> Outcome:
    """The outcome of a run that a launch does not go on with."""
    return Outcome.stopped if run.attempts() else Outcome.missing


@dataclass(frozen=True)
class Launched:
    """The outcomes of a launch."""

    outcomes: Mapping[str, Outcome]
    """By run id."""
    interrupted: bool = False
    """Whether a person or a signal ended it early."""


Say = Callable[[str], None]
"""Shows one line to the person at the terminal."""
Update = Callable[[Mapping[str, str]], None]
"""Redraws the progress; takes what a back end knows beyond the run directories, by run id."""


def choose(asked: str) -> Choice:
    """The back end that was asked for; for `auto` SLURM where `sbatch` answers, else this machine.

    `sbatch --version` is the one signal: it fails where SLURM is not installed, and where it is
    installed but belongs to no cluster. It does not ask the controller: a login node whose
    controller is down must not train itself.

    Raises:
        LaunchError: `sbatch` is there, but does not answer, or fails in another way.
    """
    if asked != "auto":
        return Choice(Backend(asked), f"--backend {asked}")
    try:
        answer = subprocess.run(["sbatch", "--version"], capture_output=True, text=True, timeout=15)
    except OSError:
        return Choice(Backend.local, "there is no sbatch on PATH")
    except subprocess.TimeoutExpired as err:
        raise LaunchError(f"sbatch does not answer; {_WAY_OUT}") from err
    if answer.returncode == 0:
        return Choice(Backend.slurm, f"sbatch answers: {answer.stdout.strip()}")
    said = answer.stderr.strip().splitlines() or ["no reason given"]
    if not re.search("config", said[-1], re.IGNORECASE):
        raise LaunchError(f"sbatch is on PATH but fails: {said[-1]}; {_WAY_OUT}")
    return Choice(Backend.local, f"sbatch is on PATH but belongs to no cluster: {said[-1]}")


_WAY_OUT = "say --backend slurm to submit nevertheless, or --backend local to run on this machine"


def placement(experiment: Experiment, backend: Backend, gpus: Sequence[str]) -> Placement:
    """How a run is dealt to processes: on SLURM as its spec says, else by what there is on this
    machine.

    Args:
        gpus: The GPUs of this machine.

    Raises:
        SpecError: The global batch does not divide over the processes.
    """
    cluster = experiment.cluster
    if backend is Backend.slurm:
        return devices.divide(experiment, cluster.world_size, on_gpu=cluster.gpus_per_node > 0)
    if backend is Backend.inline:
        return devices.divide(experiment, 1, on_gpu=bool(gpus))
    return devices.place(experiment, gpus)
