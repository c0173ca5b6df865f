"""The SLURM back end: submits runs, and with --follow resubmits them until all are done."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from antioversmooth.orchestration.backend import Launched, Outcome, Say, Update
from antioversmooth.orchestration.monitor.logs import last_log_lines
from antioversmooth.orchestration.slurm import submission
from antioversmooth.orchestration.slurm.client import Unreachable
from antioversmooth.orchestration.slurm.reconcile import (
    Action,
    Step,
    leftover_jobs,
    reconcile,
)
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import Run
from antioversmooth.runs.record import RunRecord
from antioversmooth.runs.status import RunState

REFRESH_S = 15.0
"""Seconds between two looks at the queue. SLURM's controller serves all of the cluster's users."""


def launch(
    runs: Sequence[Run],
    snapshot: Snapshot,
    say: Say,
    update: Update,
    *,
    follow: bool,
    prune: bool = False,
    tables: Sequence[str] | None = None,
    refresh_s: float = REFRESH_S,
) -> Launched:
    """Submits the runs and returns, or with `follow` stays until none of them goes on by itself.

    Leaving early (Ctrl-C) ends no job.

    Args:
        prune: Cancel the jobs of what rows and tables were before they were edited; they are listed
            in any case.
        tables: Names of the tables that the runs are rows of; default: those of the launch before.

    Raises:
        LaunchError: SLURM would refuse a job, or does not answer; what was submitted by then stays.
    """
    for line in filter(
        None, [submission.ignored_variables(), *submission.test_only(runs, snapshot)]
    ):
        say(line)
    for run, job_id in leftover_jobs(runs, tables or ()):
        outcome = "cancelled" if prune else "left alone (--prune)"
        say(f"{run.dir}: job {job_id} is of a spec that was edited since; {outcome}")
        if prune:
            submission.cancel(run)
    steps = reconcile(runs, snapshot, tables=tables)
    for step in steps:
        say(_describe_step(step))
    interrupted = False
    try:
        while follow and any(step.job_id for step in steps):
            _wait_and_refresh({step.run.id: _label(step) for step in steps}, update, refresh_s)
            before, steps = steps, _reconcile_again(runs, snapshot, steps, say)
            for step, last in zip(steps, before, strict=True):
                if _has_changed(step, last):
                    say(_describe_step(step))
    except KeyboardInterrupt:
        say("no longer following; the jobs go on")
        interrupted = True
    if not follow:
        update({step.run.id: _outcome(step).value for step in steps})
    return Launched({step.run.id: _outcome(step) for step in steps}, interrupted)


def _reconcile_again(
    runs: Sequence[Run], snapshot: Snapshot, before: list[Step], say: Say
) -> list[Step]:
    """The next steps; those before where SLURM's controller does not answer now."""
    try:
        return reconcile(runs, snapshot, asked=False)
    except Unreachable as err:
        say(f"{err}; looking again")
        return before


def _wait_and_refresh(labels: Mapping[str, str], update: Update, seconds: float) -> None:
    """Waits, and redraws each second what the run directories tell; that costs SLURM nothing."""
    until = time.monotonic() + seconds
    update(labels)
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 1.0))
        update(labels)


def _label(step: Step) -> str:
    """The state of a run in a word or two."""
    if step.action in (Action.submit, Action.replace):
        return "submitted"
    return "blocked" if step.action is Action.blocked else step.status.state.value


def _has_changed(step: Step, last: Step) -> bool:
    """Whether something was done, or a run has reached another state with a detail to tell."""
    if step.action is Action.leave:
        return bool(step.status.detail) and step.status.state is not last.status.state
    return (step.action, step.status.state, step.job_id) != (
        last.action,
        last.status.state,
        last.job_id,
    )


_DONE = {
    Action.submit: "submitted",
    Action.replace: "submitted in place of one that gets nowhere",
    Action.give_up: "given up",
    Action.blocked: "blocked",
}


def _describe_step(step: Step) -> str:
    if step.action is Action.leave:
        return f"{step.run.name}{f': job {step.job_id}' if step.job_id else ''} is {step.why}"
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
    return {Action.give_up: Outcome.failed, Action.blocked: Outcome.blocked}.get(
        step.action, Outcome.stopped
    )
