"""Cancelling runs and trying again what was given up, wherever they were launched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from antioversmooth.orchestration import preflight, snapshot
from antioversmooth.orchestration.backend import Backend, Launched, Say, Update
from antioversmooth.orchestration.local import pool, process
from antioversmooth.orchestration.monitor.state import query_statuses
from antioversmooth.orchestration.slurm import backend, reconcile, submission
from antioversmooth.orchestration.slurm.reconcile import Action
from antioversmooth.orchestration.slurm.retry import retry_decision
from antioversmooth.runs import Run
from antioversmooth.runs.record import RunRecord
from antioversmooth.runs.status import RunStatus


def cancel(run: Run) -> str:
    """Ends a run, which stays resumable and starts when it is launched; returns what was done.

    Raises:
        LaunchError: SLURM does not answer, or another machine trains the run.
    """
    record = RunRecord.read(run)
    if record.result is not None:
        return f"{run.name}: done already"
    if not run.dir.exists():
        return f"{run.name}: not launched"
    if not record.is_on_slurm:
        pid = process.ask_to_end(run)
        if pid is None:
            return (
                f"{run.name}: nothing trains it here; a launch that is under way will not start it"
            )
        return f"{run.name}: process {pid} was told to save and to end"
    if record.is_cancelled:
        return f"{run.name}: cancelled already"
    ended = submission.cancel(run)
    if ended:
        return f"{run.name}: job {', '.join(ended)} cancelled"
    return f"{run.name}: it has no job; nothing submits one until it is launched"


def given_up(runs: Sequence[Run]) -> list[Run]:
    """Runs that failed and that nothing starts again by itself.

    Not those whose result is invalid: a person moves it away first.
    """
    records = [RunRecord.read(run) for run in runs]
    records = [record for record in records if not record.invalid_result_reason]
    known = query_statuses(records)
    return [r.run for r in records if _is_given_up(r, known[r.run.id])]


def _is_given_up(record: RunRecord, status: RunStatus) -> bool:
    if not record.is_on_slurm:
        return status.state.is_failure
    return reconcile.decide(status, retry_decision(record), asked=False) is Action.give_up


def retry(
    runs: Sequence[Run], failed: Sequence[Run], results: Path, say: Say, update: Update
) -> Launched:
    """Starts failed runs again where they were launched, with fresh budgets, and then those that
    start from them.

    Args:
        runs: All that was asked for; those that others start from first.
        failed: The ones among them that are started again.
        results: The results folder that they lie in.

    Raises:
        UserError: What a launch raises, too: something is still to be mended, SLURM refuses a job.
    """
    chosen = _with_dependents(runs, {run.id for run in failed})
    submitted = [run for run in chosen if _goes_to_slurm(run)]
    here = [run for run in chosen if not _goes_to_slurm(run)]
    preflight.check(submitted, Backend.slurm, results)
    preflight.check(here, Backend.local, results)
    for line in preflight.fresh_starts(chosen):
        say(line)
    code = snapshot.take(results)
    for run in submitted:
        if run in failed:
            reconcile.retry(run)
    launched = backend.launch(submitted, code, say, update, follow=False)
    trained = pool.launch(here, code, say, update)
    return Launched({**launched.outcomes, **trained.outcomes}, trained.interrupted)


def _with_dependents(runs: Sequence[Run], ids: set[str]) -> list[Run]:
    """The runs with these ids, and those that are not done and need one of them."""
    chosen: list[Run] = []
    for run in runs:
        waits = (
            any(needed in chosen for needed in run.dependencies)
            and not run.invalid_result_reason()
            and run.result() is None
        )
        if run.id in ids or waits:
            chosen.append(run)
    return chosen


def _goes_to_slurm(run: Run) -> bool:
    """Whether it was launched there; a run that never started goes where a run is that it needs."""
    return RunRecord.read(run).is_on_slurm or any(map(_goes_to_slurm, run.dependencies))
