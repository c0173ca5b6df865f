"""The interface of back ends, the choice of one, and the outcomes of a launch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Protocol

from antioversmooth.config import Experiment
from antioversmooth.errors import LaunchError
from antioversmooth.orchestration.devices import Placement
from antioversmooth.orchestration.monitor.view import View
from antioversmooth.orchestration.slurm import commands
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import Run
from antioversmooth.runs.record import RunRecord


class Outcome(Enum):
    """The outcome of a run in one launch."""

    done = "done"
    submitted = "submitted"
    waiting = "waiting"
    """A limit on jobs is reached; the next launch submits it."""
    stopped = "stopped"
    """It ended early, and the next launch resumes it."""
    missing = "missing"
    """It never began."""
    running = "running"
    """Another launch trains it."""
    failed = "failed"
    blocked = "blocked"
    """A run that it depends on did not complete."""


def untrusted_outcomes(records: Sequence[RunRecord]) -> dict[str, Outcome]:
    """Outcomes, by run id, of runs whose result is invalid, and of those that depend on them.

    Args:
        records: Dependencies first.
    """
    outcomes: dict[str, Outcome] = {}
    for record in records:
        run = record.run
        if record.invalid_result_reason:
            outcomes[run.id] = Outcome.failed
        elif record.result is None and any(needed.id in outcomes for needed in run.dependencies):
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


class Backend(Protocol):
    """One way to start runs."""

    name: ClassVar[str]
    """As `--backend` and `intent.json` spell it."""
    submits: ClassVar[bool]
    """Whether a launch submits jobs, which go on without the launcher."""

    def placement(self, experiment: Experiment) -> Placement:
        """The processes and devices of a run.

        Raises:
            SpecError: The global batch does not divide over the processes.
        """

    def at_a_time(self, experiments: Sequence[Experiment]) -> int:
        """Most of these runs that go on side by side; 0: any number."""

    def script(self, run: Run, snapshot: Snapshot) -> str | None:
        """The batch script of a run; None without one."""

    def launch(self, runs: Sequence[Run], snapshot: Snapshot, view: View) -> Launched:
        """Starts the runs, dependencies first; returns their outcomes.

        Raises:
            LaunchError: The back end refuses a run.
        """


@dataclass(frozen=True)
class Choice:
    """A back end, and the reason for it."""

    backend: Backend
    reason: str


def choose(name: str, *, slurm: Backend, local: Backend, inline: Backend) -> Choice:
    """The back end of that name; for `auto` SLURM where `sbatch` answers, else this machine.

    The only signal is `sbatch --version`. It fails where SLURM is not installed, and where it is
    installed but belongs to no cluster. It does not ask the controller: a login node whose
    controller is down must not train.

    Raises:
        LaunchError: `sbatch` exists but does not answer, or fails in another way.
    """
    for backend in (slurm, local, inline):
        if name == backend.name:
            return Choice(backend, f"--backend {name}")
    try:
        answer = commands.run_client("sbatch", "--version", timeout=15)
    except commands.NoClient:
        return Choice(local, "there is no sbatch on PATH")
    except commands.Unreachable as err:
        raise LaunchError(f"sbatch does not answer; {_NAME_ONE}") from err
    if answer.returncode == 0:
        # a wrapper may print a welcome before
        version = re.findall(r"^slurm.*", answer.stdout, re.MULTILINE) or [answer.stdout.strip()]
        return Choice(slurm, f"sbatch answers: {version[-1]}")
    last_line = (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
    if not re.search("config", last_line, re.IGNORECASE):
        raise LaunchError(f"sbatch is on PATH but fails: {last_line}; {_NAME_ONE}")
    return Choice(local, f"sbatch is on PATH but belongs to no cluster: {last_line}")


_NAME_ONE = "use --backend slurm to submit nevertheless, or --backend local to run on this machine"
