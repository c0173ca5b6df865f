"""Why a run stands where it stands, in a paragraph: what happened last, what will happen next."""

from __future__ import annotations

from antioversmooth.orchestration.monitor import progress
from antioversmooth.orchestration.monitor.state import Phase, State, is_on_slurm, states
from antioversmooth.orchestration.monitor.view import duration
from antioversmooth.orchestration.slurm import jobs
from antioversmooth.orchestration.slurm.budget import verdict
from antioversmooth.orchestration.slurm.reconcile import (
    ENDED_BY_A_PERSON,
    Action,
    decide,
    last_words,
)
from antioversmooth.runs import Run


def explain(run: Run) -> str:
    """One paragraph; where something is to be mended, with the end of the log below it."""
    state = states([run])[run.id]
    next_step = _next_on_slurm(run, state) if is_on_slurm(run) else _next_here(run, state)
    told = [
        _standing(run, state),
        _last_attempt(run),
        _reached(run, state),
        _origin(run),
        next_step,
    ]
    return " ".join(sentence for sentence in told if sentence)


def _standing(run: Run, state: State) -> str:
    job = (
        f" (job {state.job_id}{f' on {state.nodes}' if state.nodes else ''})"
        if state.job_id
        else ""
    )
    words = state.words.replace(Phase.cancelled_running.value, "cancelled, while it was running")
    words = words.replace(Phase.cancelled_pending.value, "cancelled, before it began")
    return f"{run.name} is {words}{job}."


def _last_attempt(run: Run) -> str:
    records = jobs.attempts(run)
    starts = [r for r in records if r["event"] == "start"]
    if not starts:
        return ""
    newest = starts[-1]["attempt"]
    ends = [r for r in records if r["event"] == "end" and r["attempt"] == newest]
    ended = f" and ended as {ends[-1]['reason']}" if ends else ""
    torn = [
        r.get("file") for r in records if r["event"] == "torn-checkpoint" and r["attempt"] == newest
    ]
    why = f" (torn, so not read: {', '.join(map(str, torn))})" if torn else ""
    return f"Attempt {newest} began after step {starts[-1]['step']}{why}{ended}."


def _reached(run: Run, state: State) -> str:
    now = progress.read(run)
    if not now.step or state.phase is Phase.done:
        return ""
    accuracy = "" if now.top1 is None else f", top-1 {now.top1:.1f} %"
    left = (
        f", {duration(now.remaining_s)} left"
        if now.remaining_s and state.phase is Phase.running
        else ""
    )
    reached = f"It has reached step {now.step} of {now.total_steps}{accuracy}{left}"
    saved = progress.saved_step(run)
    if state.phase is Phase.running or saved == now.step:
        return f"{reached}."
    if not run.has_checkpoint():
        return f"{reached}, by its journal; it has no checkpoint, so the next start begins again."
    return (
        f"{reached}, by its journal; the newest checkpoint is of step {saved}, from which the next"
        " start goes on."
    )


def _origin(run: Run) -> str:
    """The runs that this one waits for."""
    needed = {"starts from": run.upstream, "learns from": run.teacher}
    told = [
        f"{how} {other.name}" for how, other in needed.items() if other and other.result() is None
    ]
    return (
        f"It {' and '.join(told)}, which {'is' if len(told) == 1 else 'are'} not done."
        if told
        else ""
    )


_GIVEN_UP = "Mend it; `antioversmooth retry` then starts it again."
_ON_SLURM = {
    Phase.running: "It goes on by itself, also after a time limit or a pre-emption.",
    Phase.done: "Nothing is left to do.",
    Phase.unknown: "Nothing is done until SLURM answers.",
}


def _next_on_slurm(run: Run, state: State) -> str:
    if jobs.is_cancelled(run) and state.phase is not Phase.done:
        return "It goes on when it is launched again."
    judged = verdict(run)
    action, _ = decide(state, judged, asked=False)
    if action is Action.give_up:
        return f"It was given up: {judged.why}. {_given_up(run)}"
    if action is Action.replace:
        return "The next launch, or a --follow that runs, replaces its job."
    if action is Action.submit:
        return "The next launch, or a --follow that runs, submits it."
    if state.phase in ENDED_BY_A_PERSON:
        return "It goes on when it is launched again."
    return _ON_SLURM.get(state.phase, "It needs nothing but its turn.")


_HERE = {
    Phase.missing: "It begins when it is launched.",
    Phase.running: "Its launcher sees to it, and lets it save when it is stopped.",
    Phase.done: "Nothing is left to do.",
}


def _given_up(run: Run) -> str:
    log = last_words(run)
    return f"{_GIVEN_UP} The end of its log:\n{log}" if log else _GIVEN_UP


def _next_here(run: Run, state: State) -> str:
    if state.phase is Phase.failed:
        return _given_up(run)
    return _HERE.get(state.phase, "It goes on when it is launched again.")
