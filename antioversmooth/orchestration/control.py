"""Cancels runs and retries failed ones, on the back end that launched them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from antioversmooth.orchestration import preflight, snapshot
from antioversmooth.orchestration.backend import Launched
from antioversmooth.orchestration.local import process
from antioversmooth.orchestration.local.pool import LocalBackend
from antioversmooth.orchestration.monitor.state import query_statuses
from antioversmooth.orchestration.monitor.view import View
from antioversmooth.orchestration.slurm import reconcile, submission
from antioversmooth.orchestration.slurm.backend import SlurmBackend
from antioversmooth.orchestration.slurm.reconcile import Action
from antioversmooth.orchestration.slurm.retry_budget import retry_decision
from antioversmooth.runs import Run
from antioversmooth.runs.record import RunRecord, read_records
from antioversmooth.runs.status import RunStatus


def cancel(run: Run) -> str:
    """Ends a run, which stays resumable and starts when it is launched; returns what was done.

    Raises:
        Refused: SLURM does not let this user end the run's job.
        LaunchError: SLURM does not answer, or another machine trains the run.
    """
    record = RunRecord.read(run)
    # the job or the process that it names is the other run's
    if foreign := run.foreign_reason(record.intent):
        return f"{run.name}: nothing to cancel: {foreign}"
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
        return f"{run.name}: process {pid} was asked to save and to end"
    ended = submission.cancel(run)
    if ended:
        return f"{run.name}: {', '.join(map(str, ended))} cancelled"
    if record.is_cancelled:
        return f"{run.name}: cancelled already"
    return f"{run.name}: it has no job; nothing submits one until it is launched"


def given_up(runs: Sequence[Run]) -> list[Run]:
    """Runs that failed and that nothing starts again by itself.

    Not those whose result is invalid: a person moves it away first.
    """
    records = read_records(runs)
    records = [record for record in records if not record.invalid_result_reason]
    known = query_statuses(records)
    return [r.run for r in records if _is_given_up(r, known[r.run.id])]


def _is_given_up(record: RunRecord, status: RunStatus) -> bool:
    if not record.is_on_slurm:
        return status.state.is_failure
    return reconcile.decide(status, retry_decision(record), asked=False) is Action.give_up


def retry(runs: Sequence[Run], failed: Sequence[Run], results: Path, view: View) -> Launched:
    """Restarts failed runs where they were launched, with fresh budgets, and their dependents.

    Args:
        runs: All that was asked for; dependencies first.
        failed: Those to restart.
        results: Their results folder.

    Raises:
        UserError: As a launch does: a check fails, or SLURM refuses a job.
    """
    chosen = _with_dependents(read_records(runs), {run.id for run in failed})
    ids = {record.run.id for record in chosen if _goes_to_slurm(record)}
    on_slurm = [record for record in chosen if record.run.id in ids]
    here = [record for record in chosen if record.run.id not in ids]
    backends = ((SlurmBackend(), on_slurm), (LocalBackend(), here))
    for backend, group in backends:
        preflight.check(group, backend, results)
    preflight.make_results_folder(results)
    for line in preflight.fresh_starts(chosen):
        view.say(line)
    code = snapshot.take(results)
    # a retry that SLURM refuses grants nothing
    submission.test_only([record.run for record in on_slurm], code)
    for run in failed:
        if run.id in ids:
            reconcile.retry(run)
    launched = [
        backend.launch([record.run for record in group], code, view) for backend, group in backends
    ]
    outcomes = {id_: outcome for each in launched for id_, outcome in each.outcomes.items()}
    return Launched(outcomes, any(each.interrupted for each in launched))


def _with_dependents(records: Sequence[RunRecord], ids: set[str]) -> list[RunRecord]:
    """The runs with these ids, and those that are not done and need one of them."""
    chosen: dict[str, RunRecord] = {}
    for record in records:
        run = record.run
        waits = (
            any(needed.id in chosen for needed in run.dependencies)
            and not record.invalid_result_reason
            and record.result is None
        )
        if run.id in ids or waits:
            chosen[run.id] = record
    return list(chosen.values())


def _goes_to_slurm(record: RunRecord) -> bool:
    """Whether it was launched there; a run that never started goes where a run is that it needs."""
    needed = map(RunRecord.read, record.run.dependencies)
    return record.is_on_slurm or any(map(_goes_to_slurm, needed))
