"""The inline back end: runs in this process, one after another, where a debugger can stop."""

from __future__ import annotations

from collections.abc import Sequence

from antioversmooth.orchestration.backend import Backend, Launched, Outcome, Say, Update
from antioversmooth.orchestration.intent import write_intent
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import Run


def launch(runs: Sequence[Run], snapshot: Snapshot, say: Say, update: Update) -> Launched:
    """Trains the runs in this process; exceptions travel, and a run that ends early ends the launch."""
    from antioversmooth.training.train import train  # torch is needed only now

    outcomes = {run.id: Outcome.stopped for run in runs}
    for run in runs:
        say(f"{run.name} runs in this process")
        write_intent(run, Backend.inline.value, snapshot)
        train(run)
        if run.result() is None:
            return Launched(outcomes, interrupted=True)
        outcomes[run.id] = Outcome.done
        update({})
    return Launched(outcomes)
