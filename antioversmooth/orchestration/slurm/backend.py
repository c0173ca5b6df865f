"""The SLURM back end: submits what needs submitting; and, for who stays to look, keeps it going
until all is done."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from antioversmooth.orchestration.backend import Launched, Outcome, Say, Update
from antioversmooth.orchestration.slurm import submission
from antioversmooth.orchestration.slurm.client import Unreachable
from antioversmooth.orchestration.slurm.reconcile import (
    Action,
    Step,
    last_words,
    left_over,
    reconcile,
)
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import Run

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
    tables: Sequence[str] = (),
    refresh_s: float = REFRESH_S,
) -> Launched:
    """Submits the runs and returns, or with `follow` stays until none of them goes on by itself.

    Leaving early (Ctrl-C) ends no job.

    Args:
        prune: Cancel the jobs of what rows and tables were before they were edited; they are listed
            in any case.
        tables: Names of the tables that the runs are rows of.

    Raises:
        LaunchError: SLURM would refuse a job, or does not answer; what was submitted by then stays.
    """
    for line in filter(None, [submission.set_aside(), *submission.rehearse(runs, snapshot)]):
        say(line)
    for run, job_id in left_over(runs, tables):
        became = "cancelled" if prune else "left alone (--prune)"
        say(f"{run.dir}: job {job_id} is of a spec that was edited since; {became}")
        if prune:
            submission.cancel(run)
    steps = reconcile(runs, snapshot)
    for step in steps:
        say(_told(step))
    interrupted = False
    try:
        while follow and any(step.job_id for step in steps):
            _look_on({step.run.id: _label(step) for step in steps}, update, refresh_s)
            before, steps = steps, _reconcile_again(runs, snapshot, steps, say)
            for step, last in zip(steps, before, strict=True):
                if _is_news(step, last):
                    say(_told(step))
    except KeyboardInterrupt:
        say("no longer following; the jobs go on")
        interrupted = True
    if not follow:
        update({step.run.id: _outcome(step).value for step in steps})
    return Launched({step.run.id: _outcome(step) for step in steps}, interrupted)


def _reconcile_again(
    runs: Sequence[Run], snapshot: Snapshot, before: list[Step], say: Say
) -> list[Step]:
    """The next steps; those before, where SLURM's controller is away just now: who follows for days
    outlives that."""
    try:
        return reconcile(runs, snapshot, asked=False)
    except Unreachable as err:
        say(f"{err}; looking again")
        return before


def _look_on(labels: Mapping[str, str], update: Update, seconds: float) -> None:
    """Redraws meanwhile what the run directories tell, which costs SLURM nothing."""
    until = time.monotonic() + seconds
    update(labels)
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 1.0))
        update(labels)


def _label(step: Step) -> str:
    """Where a run stands, in a word or two."""
    return (
        "submitted"
        if step.action in (Action.submit, Action.replace)
        else step.why.partition(":")[0]
    )


def _is_news(step: Step, last: Step) -> bool:
    """Whether something was done, or a run got to another state that has more to say than its
    name."""
    if step.action is Action.leave:
        return ":" in step.why and _label(step) != _label(last)
    return step != last


_DONE = {
    Action.submit: "submitted",
    Action.replace: "submitted in place of one that gets nowhere",
    Action.give_up: "given up",
    Action.blocked: "blocked",
}


def _told(step: Step) -> str:
    if step.action is Action.leave:
        return f"{step.run.name}{f': job {step.job_id}' if step.job_id else ''} is {step.why}"
    job = f"job {step.job_id} " if step.job_id else ""
    told = f"{step.run.name}: {job}{_DONE[step.action]} ({step.why})"
    return f"{told}\n{last_words(step.run)}" if step.action is Action.give_up else told


def _outcome(step: Step) -> Outcome:
    if step.run.result() is not None:
        return Outcome.done
    if step.job_id is not None:
        return Outcome.submitted
    return {Action.give_up: Outcome.failed, Action.blocked: Outcome.blocked}.get(
        step.action, Outcome.stopped
    )
