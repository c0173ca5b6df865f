"""Cancelling runs and trying again what was given up, wherever they were launched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from antioversmooth.orchestration import preflight, snapshot
from antioversmooth.orchestration.backend import Backend, Launched, Say, Update
from antioversmooth.orchestration.local import pool, process
from antioversmooth.orchestration.monitor.state import Phase, State, is_on_slurm, states
from antioversmooth.orchestration.slurm import backend, jobs, reconcile, submission
from antioversmooth.orchestration.slurm.budget import verdict
from antioversmooth.orchestration.slurm.reconcile import Action
from antioversmooth.runs import Run


def cancel(run: Run) -> str:
    """What was done so that nothing runs this run any more; it stays resumable, and starts when it
    is launched.

    Raises:
        LaunchError: SLURM does not answer, or another machine trains the run.
    """
    if run.result() is not None:
        return f"{run.name}: done already"
    if not run.dir.exists():
        return f"{run.name}: not launched"
    if not is_on_slurm(run):
        pid = process.ask_to_end(run)
        if pid is None:
            return (
                f"{run.name}: nothing trains it here; a launch that is under way will not start it"
            )
        return f"{run.name}: process {pid} was told to save and to end"
    if jobs.is_cancelled(run):
        return f"{run.name}: cancelled already"
    ended = submission.cancel(run)
    told = (
        f"job {', '.join(ended)} cancelled"
        if ended
        else "it has no job; nothing submits one until it is launched"
    )
    return f"{run.name}: {told}"


def given_up(runs: Sequence[Run]) -> list[Run]:
    """Those that failed and that nothing starts again by itself.

    Not those whose result cannot be trusted: a person moves it away first.
    """
    trusted = [run for run in runs if not run.invalid_result_reason()]
    known = states(trusted)
    return [run for run in trusted if _is_given_up(run, known[run.id])]


def _is_given_up(run: Run, state: State) -> bool:
    if not is_on_slurm(run):
        return state.phase is Phase.failed
    return reconcile.decide(state, verdict(run), asked=False)[0] is Action.give_up


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
    return is_on_slurm(run) or any(map(_goes_to_slurm, run.dependencies))
