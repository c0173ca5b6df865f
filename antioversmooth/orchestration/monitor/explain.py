"""Why a run is in its state, in a paragraph: what happened last, and what will happen next."""

from __future__ import annotations

from antioversmooth.datasets.current import CurrentData
from antioversmooth.orchestration.monitor.logs import last_log_lines
from antioversmooth.orchestration.monitor.progress import progress_of
from antioversmooth.orchestration.monitor.status import describe_changed_data
from antioversmooth.orchestration.monitor.view import duration
from antioversmooth.orchestration.slurm.reconcile import ENDED_BY_A_PERSON, Action, decide
from antioversmooth.orchestration.slurm.retry_budget import failed_starts, retry_decision
from antioversmooth.runs.draws import launch_refused_reason
from antioversmooth.runs.jobs import EventKind
from antioversmooth.runs.record import RunRecord
from antioversmooth.runs.status import RunState, RunStatus


def explain(record: RunRecord, status: RunStatus) -> str:
    """One paragraph; with the end of the log below it if a person must fix something."""
    next_step = _next_on_slurm if record.is_on_slurm else _next_here
    is_settled = status.state.is_live or record.result is not None
    refused = "" if is_settled else launch_refused_reason(record)
    sentences = [
        _describe_state(record, status),
        _describe_last_attempt(record),
        _describe_progress(record, status),
        _describe_failed_starts(record, status),
        _describe_dependencies(record),
        # the detail of an invalid result has the advice
        "" if record.invalid_result_reason else refused or next_step(record, status),
        _describe_data(record),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


_PREDICATES = {
    RunState.dependency_failed: "cannot start, dependency failed",
    RunState.preempted: "was preempted",
    RunState.timed_out: "timed out",
    RunState.node_failure: "ended by node failure",
    RunState.out_of_memory: "ran out of memory",
    RunState.failed: "failed",
    RunState.cancelled_pending: "was cancelled before it began",
    RunState.cancelled_running: "was cancelled while it was running",
}
"""Predicates of states that do not go with "is"."""


def _describe_state(record: RunRecord, status: RunStatus) -> str:
    nodes = f" on {status.nodes}" if status.nodes else ""
    job = f" ({status.job}{nodes})" if status.job_id else ""
    predicate = _PREDICATES.get(status.state, f"is {status.state.value}")
    detail = f": {status.detail}" if status.detail else ""
    return f"{record.run.name} {predicate}{detail}{job}."


def _describe_last_attempt(record: RunRecord) -> str:
    if not record.attempts:
        return ""
    newest = record.attempts[-1]
    ended = f" and ended as {newest.reason.value}" if newest.reason else ""
    skipped = [
        f"{note.get('file')} {note.get('why', 'is torn')}"
        for note in newest.notes
        if note["event"] in ("torn-checkpoint", "changed-checkpoint", "foreign-checkpoint")
    ]
    why = f" (not read: {', '.join(skipped)})" if skipped else ""
    return f"Attempt {newest.number} began after step {newest.step}{why}{ended}."


def _describe_progress(record: RunRecord, status: RunStatus) -> str:
    progress, is_running = progress_of(record), status.state is RunState.running
    saved = record.saved_step
    if not max(progress.step, saved) or status.state is RunState.done:
        return ""
    accuracy = "" if progress.top1 is None else f", top-1 {progress.top1:.1f} %"
    left = f", {duration(progress.remaining_s)} left" if progress.remaining_s and is_running else ""
    reached = f"It has reached step {progress.step} of {progress.total_steps}{accuracy}{left}"
    if saved > progress.step:
        # the journal has not every step
        return f"It has reached step {saved} of {progress.total_steps}, by its checkpoint{left}."
    if is_running or saved == progress.step:
        return f"{reached}."
    if not record.all_checkpoints:
        return f"{reached}, by its journal; it has no checkpoint, so the next start begins again."
    resumes = f"the next start resumes from the checkpoint of step {saved}"
    return f"{reached}, by its journal; {resumes}."


def _describe_failed_starts(record: RunRecord, status: RunStatus) -> str:
    """How many starts failed in a row, of a run with a job."""
    if not status.state.is_live or record.is_cancelled:
        return ""
    failed, most = failed_starts(record), record.run.experiment.cluster.max_without_progress
    if not failed or failed >= most:
        return ""
    codes = [event.code for event in record.events if event.kind is EventKind.ended]
    last = f", the last one with exit code {codes[-1]}" if codes else ""
    starts = "1 start" if failed == 1 else f"{failed} starts in a row"
    return f"{starts} ended without a new checkpoint{last}; after {most} it is given up."


def _describe_dependencies(record: RunRecord) -> str:
    """The runs that it waits for."""
    roles = {"starts from": record.run.upstream, "learns from": record.run.teacher}
    pending = [f"{role} {run.name}" for role, run in roles.items() if run and run.result() is None]
    if not pending:
        return ""
    return f"It {' and '.join(pending)}, which {'is' if len(pending) == 1 else 'are'} not done."


def _describe_data(record: RunRecord) -> str:
    """How the data of a done run differs from the data now."""
    changed = describe_changed_data(record, CurrentData())
    return f"It was {changed}." if changed else ""


_NEXT_ON_SLURM = {
    RunState.running: "It resumes by itself after a time limit or a preemption.",
    RunState.done: "Nothing is left to do.",
    RunState.unknown: "Nothing is done until SLURM answers.",
}


def _next_on_slurm(record: RunRecord, status: RunStatus) -> str:
    if record.is_cancelled and status.state is not RunState.done:
        return "It resumes when it is launched again."
    if status.owner and status.state in (RunState.hung, RunState.dependency_failed):
        return f"Only {status.owner} may end its job; the next launch then submits another."
    decision = retry_decision(record)
    action = decide(status, decision, asked=False)
    if action is Action.give_up:
        return f"It was given up: {decision.why}. {_advise_retry(record)}"
    if action is Action.replace:
        return "The next launch, or a --follow that runs, replaces its job."
    if action is Action.submit:
        return "The next launch, or a --follow that runs, submits it."
    if status.state in ENDED_BY_A_PERSON:
        return "It resumes when it is launched again."
    return _NEXT_ON_SLURM.get(status.state, "It waits for its turn.")


def _advise_retry(record: RunRecord) -> str:
    advice = "Fix the cause, then start it again with `antioversmooth retry`."
    log = last_log_lines(record)
    return f"{advice} The end of its log:\n{log}" if log else advice


_NEXT_HERE = {
    RunState.missing: "It begins when it is launched.",
    RunState.stale: "It begins when it is launched.",
    RunState.running: "Its launcher watches it, and lets it save when it is stopped.",
    RunState.done: "Nothing is left to do.",
}


def _next_here(record: RunRecord, status: RunStatus) -> str:
    if status.state.is_failure:
        return _advise_retry(record)
    return _NEXT_HERE.get(status.state, "It resumes when it is launched again.")
