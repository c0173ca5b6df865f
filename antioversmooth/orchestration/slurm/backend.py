"""The SLURM back end: submits runs, and with `follow` resubmits them until all are done."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ClassVar

from antioversmooth.config import Experiment
from antioversmooth.orchestration import devices
from antioversmooth.orchestration.backend import Launched, Outcome
from antioversmooth.orchestration.devices import Placement
from antioversmooth.orchestration.monitor.logs import last_log_lines
from antioversmooth.orchestration.monitor.view import View
from antioversmooth.orchestration.notify import events
from antioversmooth.orchestration.slurm import submission
from antioversmooth.orchestration.slurm.commands import Unreachable
from antioversmooth.orchestration.slurm.reconcile import Action, Step, leftover_jobs, reconcile
from antioversmooth.orchestration.slurm.script import sbatch_script
from antioversmooth.orchestration.snapshot import Snapshot, older_code
from antioversmooth.runs import Run
from antioversmooth.runs.record import SLURM, RunRecord
from antioversmooth.runs.status import RunState

REFRESH_S = 15.0
"""Seconds between two looks at the queue. SLURM's controller serves all of the cluster's users."""


@dataclass(frozen=True)
class SlurmBackend:
    """Submits runs as jobs."""

    name: ClassVar[str] = SLURM
    submits: ClassVar[bool] = True

    follow: bool = False
    """Stay until none of the runs goes on by itself, and resubmit those that can resume."""
    prune: bool = False
    """Cancel jobs of rows that were edited or removed since; they are reported in any case."""
    tables: Sequence[str] | None = None
    """Names of the tables that the runs are rows of; none: those of the launch before."""
    while_following: Callable[[Callable[[str], None]], AbstractContextManager[object]] = nullcontext
    """Makes a context to follow in of a function that shows a line."""
    refresh_s: float = REFRESH_S

    def placement(self, experiment: Experiment) -> Placement:
        """The processes that the spec asks for."""
        cluster = experiment.cluster
        return devices.place_on(experiment, cluster.world_size, on_gpu=cluster.gpus_per_node > 0)

    def at_a_time(self, experiments: Sequence[Experiment]) -> int:
        """The limit of the profile on jobs in the queue."""
        return max((experiment.cluster.max_queued for experiment in experiments), default=0)

    def script(self, run: Run, snapshot: Snapshot) -> str:
        """The sbatch script of a run."""
        return sbatch_script(run, snapshot.path)

    def launch(self, runs: Sequence[Run], snapshot: Snapshot, view: View) -> Launched:
        """Submits the runs; with `follow` stays. Leaving early (Ctrl-C) ends no job.

        Raises:
            LaunchError: SLURM would refuse a job, or does not answer; jobs that were submitted
                before stay.
        """
        warnings = [submission.ignored_variables(), *submission.test_only(runs, snapshot)]
        for line in filter(None, warnings):
            view.say(line)
        for run, job in leftover_jobs(runs, self.tables or ()):
            outcome = _prune(run) if self.prune else "left alone (--prune)"
            view.say(f"{run.dir}: {job} is of a spec that was edited since; {outcome}")
        steps = _submit(runs, snapshot, view, self.tables)
        left = [step for step in steps if step.action is Action.leave]
        if line := older_code([step.code for step in left if step.status.state.is_live], snapshot):
            view.say(line)
        interrupted = False
        if self.follow:
            with self.while_following(view.say):
                steps, interrupted = self._follow(steps, snapshot, view)
        else:
            view.update({step.run.id: _outcome(step).value for step in steps})
        return Launched({step.run.id: _outcome(step) for step in steps}, interrupted)

    def _follow(self, steps: list[Step], snapshot: Snapshot, view: View) -> tuple[list[Step], bool]:
        """Reconciles until no run goes on; returns the last steps, and if Ctrl-C ended it."""
        was_unknown = False
        try:
            while any(map(_goes_on, steps)):
                if any(map(_is_unknown, steps)) and not was_unknown:
                    was_unknown = True
                    view.say(f"SLURM is asked again every {self.refresh_s:.0f} s")
                _wait_and_refresh(steps, view, self.refresh_s)
                steps = _reconcile_again(steps, snapshot, view)
        except KeyboardInterrupt:
            view.say("no longer following; the jobs go on")
            return steps, True
        return steps, False


def _submit(
    runs: Sequence[Run], snapshot: Snapshot, view: View, tables: Sequence[str] | None
) -> list[Step]:
    """The first steps; each is shown when it is taken, also where a later one fails."""
    steps: list[Step] = []
    try:
        for step in reconcile(runs, snapshot, tables=tables):
            steps.append(step)
            _notify(step, view)
            if step.action is not Action.wait:
                view.say(_describe_step(step))
    finally:
        waits = Counter(step.why for step in steps if step.action is Action.wait)
        if len(steps) < len(runs):
            # an intent alone would show as a submission
            view.update(_without_job(runs) | {step.run.id: _outcome(step).value for step in steps})
        if waits or len(steps) < len(runs):
            submitted = f"{sum(map(_has_job, steps))} of {len(runs)} submitted"
            waiting = (f"{n} wait{'s' if n == 1 else ''} {why}" for why, n in waits.items())
            view.say(", ".join([submitted, *waiting]))
    return steps


def _without_job(runs: Sequence[Run]) -> dict[str, str]:
    """The state, by run id, of those runs that never had a job."""
    idle = (run.id for run in runs if RunRecord.read(run).newest_job_id is None)
    return dict.fromkeys(idle, Outcome.waiting.value)


def _has_job(step: Step) -> bool:
    return step.job_id is not None


def _goes_on(step: Step) -> bool:
    """Whether something may happen to the run without a person."""
    return _has_job(step) or step.action is Action.wait or _is_unknown(step)


def _is_unknown(step: Step) -> bool:
    return step.status.state is RunState.unknown


def _reconcile_again(before: list[Step], snapshot: Snapshot, view: View) -> list[Step]:
    """The next steps; those before where SLURM's controller does not answer now."""
    steps = {step.run.id: step for step in before}
    try:
        for step in reconcile([step.run for step in before], snapshot, asked=False):
            if _has_changed(step, steps[step.run.id]):
                view.say(_describe_step(step))
            steps[step.run.id] = step
            _notify(step, view)
    except Unreachable as err:
        view.say(f"{err}; looking again")
    return list(steps.values())


def _notify(step: Step, view: View) -> None:
    """Notifies of an end that the batch script may not have lived to see."""
    if step.event:
        events.run_ended(step.run, step.event, step.why, view.say)


def _prune(run: Run) -> str:
    """Cancels the jobs of a run that is not asked for any more; returns the outcome, for people."""
    try:
        submission.cancel(run)
    except submission.Refused as err:
        return str(err)
    return "cancelled"


def _wait_and_refresh(steps: Sequence[Step], view: View, seconds: float) -> None:
    """Waits, and redraws the run directories' progress each second; that costs SLURM nothing."""
    labels = {step.run.id: _label(step) for step in steps}
    until = time.monotonic() + seconds
    view.update(labels)
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 1.0))
        view.update(labels)


def _label(step: Step) -> str:
    """The state of a run in a word or two."""
    if step.action in (Action.submit, Action.replace):
        return "submitted"
    own = {Action.blocked: "blocked", Action.wait: "waiting"}
    return own.get(step.action) or step.status.state.value


def _has_changed(step: Step, last: Step) -> bool:
    """Whether something was done, or a run has reached another state with a detail."""
    has_new_state = step.status.state is not last.status.state
    if step.action is Action.wait:
        return last.action is not Action.wait
    if step.action is Action.leave:
        return bool(step.status.detail) and has_new_state
    return has_new_state or (step.action, step.job_id) != (last.action, last.job_id)


_DONE = {
    Action.submit: "submitted",
    Action.replace: "submitted in place of one that makes no progress",
    Action.wait: "waiting",
    Action.give_up: "given up",
    Action.blocked: "blocked",
}


def _describe_step(step: Step) -> str:
    if step.action is Action.leave:
        return f"{step.run.name}{f': {step.status.job}' if step.job_id else ''} is {step.why}"
    job = f"job {step.job_id} " if step.job_id else ""
    line = f"{step.run.name}: {job}{_DONE[step.action]} ({step.why})"
    if step.action is Action.give_up:
        return f"{line}\n{last_log_lines(RunRecord.read(step.run))}"
    return line


def _outcome(step: Step) -> Outcome:
    if step.status.state is RunState.done:
        return Outcome.done
    if step.job_id is not None:
        return Outcome.submitted
    return _OUTCOMES.get(step.action, Outcome.stopped)


_OUTCOMES = {
    Action.wait: Outcome.waiting,
    Action.give_up: Outcome.failed,
    Action.blocked: Outcome.blocked,
}
"""Outcomes of runs without a job."""
