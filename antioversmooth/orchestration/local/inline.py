"""The inline back end: runs in this process, one after another, where a debugger can stop."""

from __future__ import annotations

from collections.abc import Sequence

from antioversmooth.errors import AttemptEnded
from antioversmooth.orchestration.backend import (
    Backend,
    Launched,
    Outcome,
    Say,
    Update,
    stopped_outcome,
)
from antioversmooth.orchestration.intent import write_intent
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import Run
from antioversmooth.runs.attempts import RESUMABLE


def launch(runs: Sequence[Run], snapshot: Snapshot, say: Say, update: Update) -> Launched:
    """Trains the runs in this process until one of them ends early (Ctrl-C, a step limit); errors
    travel."""
    # torch is needed only now
    from antioversmooth.training.train import train

    outcomes = {}
    for run in runs:
        say(f"{run.name} runs in this process")
        write_intent(run, Backend.inline.value, snapshot)
        try:
            train(run)
        except AttemptEnded as err:
            if err.reason not in {reason.value for reason in RESUMABLE}:
                raise
            say(f"{run.name} ended early: {err}")
            break
        outcomes[run.id] = Outcome.done
        update({})
    rest = {run.id: stopped_outcome(run) for run in runs if run.id not in outcomes}
    return Launched({**outcomes, **rest})
