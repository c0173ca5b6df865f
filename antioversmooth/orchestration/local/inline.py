"""The inline back end: runs in this process, one after another, where a debugger can stop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from antioversmooth.config import Experiment
from antioversmooth.errors import AttemptEnded
from antioversmooth.orchestration import devices
from antioversmooth.orchestration.backend import Launched, Outcome, stopped_outcome
from antioversmooth.orchestration.devices import Placement
from antioversmooth.orchestration.intent import write_intent
from antioversmooth.orchestration.monitor.view import View
from antioversmooth.orchestration.notify import events
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import Run
from antioversmooth.runs.attempts import RESUMABLE
from antioversmooth.runs.code import require_launched_code
from antioversmooth.runs.lock import LAUNCH_LOCK, hold_lock


class InlineBackend:
    """Trains runs in this process."""

    name: ClassVar[str] = "inline"
    submits: ClassVar[bool] = False

    def placement(self, experiment: Experiment) -> Placement:
        """One process, on a GPU if there is one."""
        return devices.place_on(experiment, 1, on_gpu=bool(devices.visible_gpus()))

    def at_a_time(self, experiments: Sequence[Experiment]) -> int:
        """One."""
        return 1

    def script(self, run: Run, snapshot: Snapshot) -> None:
        """None: no job is submitted."""

    def launch(self, runs: Sequence[Run], snapshot: Snapshot, view: View) -> Launched:
        """Trains one run after another until one ends early (Ctrl-C, a step limit).

        Errors are not caught: a debugger can stop at them.
        """
        # imports torch
        from antioversmooth.training.train import train

        outcomes = {}
        for run in runs:
            is_running = f"{run.name} is running already (its lock is held): {run.dir}"
            try:
                with hold_lock(run.dir, LAUNCH_LOCK, timeout_s=0, message=is_running):
                    write_intent(run, self.name, snapshot)
                    require_launched_code(run.dir, from_snapshot=False)
                    view.say(f"{run.name} runs in this process")
                    try:
                        train(run)
                    finally:
                        events.run_over(run, view.say)
            except AttemptEnded as err:
                if err.reason not in {reason.value for reason in RESUMABLE}:
                    raise
                view.say(f"{run.name} ended early: {err}")
                break
            outcomes[run.id] = Outcome.done
            view.update({})
        rest = {run.id: stopped_outcome(run) for run in runs if run.id not in outcomes}
        return Launched({**outcomes, **rest})
