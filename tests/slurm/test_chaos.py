"""Random faults over a small table: every run ends done, none lost, none doubled."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

from lab import Lab, assert_nothing_lost_or_doubled, once
from machines import wait_until

from antioversmooth.orchestration.reconcile import reconcile
from antioversmooth.orchestration.scheduler import Stage, queue
from antioversmooth.orchestration.script import job_name
from antioversmooth.orchestration.state import Phase, states
from antioversmooth.runs import Run

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "20"))
PATIENT = [
    "recipe.epochs=5", "cluster.max_crashes=1000", "cluster.max_without_progress=1000", "cluster.nodes=1",
    "cluster.tasks_per_node=2",
]  # fmt: skip


class Chaos:
    """Random faults, the same ones for the same seed."""

    def __init__(self, lab: Lab, table: list[Run], seed: int) -> None:
        self._lab = lab
        self._table = table
        self._random = random.Random(seed)

    def strike(self) -> str:
        """Does one thing to a cluster or to a run; its name."""
        faults: list[Callable[[], None]] = [
            self.kill_a_rank, self.warn_a_job, self.requeue_a_job, self.restart_the_controller, self.cycle_a_node,
        ]  # fmt: skip
        fault = self._random.choices(faults, weights=[6, 4, 4, 1, 2])[0]
        fault()
        return fault.__name__

    def kill_a_rank(self) -> None:
        victims = [(run, rank) for run in self._table for rank in self._lab.processes(run)]
        if victims:
            self._lab.kill_rank(*self._random.choice(victims))

    def warn_a_job(self) -> None:
        self._to_a_running_job("scancel", "--signal=USR2")

    def requeue_a_job(self) -> None:
        self._to_a_running_job("scontrol", "requeue")

    def _to_a_running_job(self, *command: str) -> None:
        known = states(self._table).values()
        running = sorted(state.job_id for state in known if state.phase is Phase.running and state.job_id)
        if running:
            self._lab.cluster.ask(*command, self._random.choice(running))

    def restart_the_controller(self) -> None:
        self._lab.cluster.stop_controller()
        self._lab.cluster.start_controller()

    def cycle_a_node(self) -> None:
        node = self._random.choice(sorted(self._lab.cluster.nodes))
        self._lab.cluster.power_off(node)
        time.sleep(1)
        self._lab.cluster.power_on(node)


@once
def test_a_table_survives_random_faults(lab: Lab) -> None:
    table = [lab.new_run("chaos", *PATIENT, seed=number) for number in range(3)]
    chaos, struck = Chaos(lab, table, seed=0), []
    for _ in range(ROUNDS):
        reconcile(table, lab.code, asked=False)
        time.sleep(4)
        struck.append(chaos.strike())

    def all_done() -> bool:
        reconcile(table, lab.code, asked=False)
        return all(run.result() is not None for run in table)

    wait_until(all_done, f"end of all runs after {struck}", seconds=600)
    for run in table:
        assert_nothing_lost_or_doubled(run)
    names = {job_name(run) for run in table}
    wait_until(lambda: not names & {job.name for job in queue() if job.stage is not Stage.over}, "end of the last jobs")
