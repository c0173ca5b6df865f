"""Random faults over a small table: every run ends done, none lost, none doubled."""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from lab import Lab, assert_nothing_lost_or_doubled, on, starts
from machines import wait_until

from antioversmooth.orchestration.monitor.state import query_statuses
from antioversmooth.orchestration.slurm.client import jobs_named
from antioversmooth.orchestration.slurm.reconcile import reconcile
from antioversmooth.orchestration.slurm.script import job_name
from antioversmooth.runs import Run, RunRecord, RunState

ROUNDS = 8
"""Of one table; CHAOS_ROUNDS asks for more, over as many tables, each with other faults."""
TABLES = math.ceil(int(os.environ.get("CHAOS_ROUNDS", ROUNDS)) / ROUNDS)
ROWS = 3
"""Runs at a time; another seed takes the place of one that is done, so that there is always
something to hurt."""
PATIENT = ["cluster.max_crashes=1000", "cluster.max_without_progress=1000"]
SHAPES = (["cluster.nodes=2"], ["cluster.nodes=1"], ["cluster.nodes=1", "cluster.tasks_per_node=2"])


class Chaos:
    """A table of runs and random faults, repeatable by seed as far as timing allows."""

    def __init__(self, lab: Lab, seed: int) -> None:
        self._lab = lab
        self._seed = seed
        self._random = random.Random(seed)
        self.table: list[Run] = []

    def reconcile(self) -> int:
        """Reconciles once, as `--follow` does; returns the number of runs that are not done."""
        list(reconcile(self.table, self._lab.code, asked=False))
        return sum(run.result() is None for run in self.table)

    def fill(self) -> None:
        """Adds runs to the table."""
        while sum(run.result() is None for run in self.table) < ROWS:
            seed = len(self.table)
            shape = SHAPES[seed % len(SHAPES)]
            self.table.append(self._lab.new_run(f"chaos{self._seed}", *PATIENT, *shape, seed=seed))
        self.reconcile()

    def strike(self) -> str:
        """Causes one fault as soon as something can be hit; returns its name."""
        faults: list[Callable[[], bool]] = [
            self.kill_a_rank, self.warn_a_job, self.requeue_a_job, self.restart_the_controller,
            self.cycle_a_node,
            self.restart_a_slurmd,
        ]  # fmt: skip
        while True:
            fault = self._random.choices(faults, weights=[6, 4, 4, 1, 2, 1])[0]
            if fault():
                return fault.__name__
            time.sleep(0.2)
            self.fill()

    def kill_a_rank(self) -> bool:
        victims = [(run, rank) for run in self.table for rank in self._lab.processes(run)]
        if victims:
            self._lab.kill_rank(*self._random.choice(victims))
        return bool(victims)

    def warn_a_job(self) -> bool:
        return self._to_a_running_job("scancel", "--signal=USR2")

    def requeue_a_job(self) -> bool:
        return self._to_a_running_job("scontrol", "requeue")

    def _to_a_running_job(self, *command: str) -> bool:
        known = query_statuses([RunRecord.read(run) for run in self.table]).values()
        running = sorted(
            state.job_id for state in known if state.state is RunState.running and state.job_id
        )
        if not running:
            return False
        # the job may just have ended
        with suppress(RuntimeError):
            self._lab.cluster.ask(*command, self._random.choice(running))
        return True

    def restart_the_controller(self) -> bool:
        self._lab.cluster.stop_controller()
        self._lab.cluster.start_controller()
        return True

    def cycle_a_node(self) -> bool:
        node = self._random.choice(sorted(self._lab.cluster.nodes))
        self._lab.cluster.power_off(node)
        time.sleep(1)
        self._lab.cluster.power_on(node)
        return True

    def restart_a_slurmd(self) -> bool:
        node = self._random.choice(sorted(self._lab.cluster.nodes))
        self._lab.cluster.kill_slurmd(node)
        time.sleep(1)
        self._lab.cluster.start_slurmd(node)
        return True


@on("bare")
@pytest.mark.parametrize("seed", range(TABLES))
def test_a_table_survives_random_faults(lab: Lab, seed: int) -> None:
    chaos, struck = Chaos(lab, seed), []
    for _ in range(ROUNDS):
        chaos.fill()
        time.sleep(3)
        struck.append(chaos.strike())
    wait_until(lambda: not chaos.reconcile(), f"end of all runs after {struck}", seconds=600)
    for run in chaos.table:
        assert_nothing_lost_or_doubled(run)
    assert sum(len(starts(run)) for run in chaos.table) > len(chaos.table), (
        f"nothing was hurt by {struck}"
    )
    names = {job_name(run) for run in chaos.table}
    wait_until(
        lambda: not any(job.is_live for job in jobs_named(names)),
        "end of the last jobs",
    )
