"""Faults of a real cluster: after each one the run resumes, and reaches exactly the same
weights."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest
from lab import (
    CHECKPOINT_EVERY_S,
    Lab,
    assert_nothing_lost_or_doubled,
    assert_same_weights,
    ends,
    events,
    lost_steps,
    on,
    starts,
)
from machines import wait_until

from antioversmooth.orchestration.monitor.state import query_statuses
from antioversmooth.orchestration.slurm import reconcile, submission
from antioversmooth.orchestration.slurm.reconcile import Action
from antioversmooth.orchestration.slurm.retry_budget import retry_decision
from antioversmooth.runs import Run, RunRecord, RunState

SAVING_TAKES_S = 3.0
"""More than a checkpoint and its agreement take on a machine that is busy with other tests."""


def assert_it_went_on(lab: Lab, run: Run, *reasons: str) -> None:
    """The run reaches the weights of the one without faults; its attempts end for these reasons."""
    lab.wait_done(run)
    assert ends(run) == [*reasons, "completed"], lab.account(run)
    for before, start in zip(starts(run), starts(run)[1:], strict=False):
        assert start["step"] > 0
        lost = lost_steps(run, before["attempt"])
        assert not lost or lost[-1]["time"] - lost[0]["time"] <= CHECKPOINT_EVERY_S + SAVING_TAKES_S
    assert_nothing_lost_or_doubled(run)
    assert_same_weights(run, lab.reference())
    assert events(run) == ["run_done"]


@on("accounted")
def test_the_time_limit(lab: Lab) -> None:
    run = lab.new_run("limit", "cluster.time_min=30", "cluster.signal_delay_s=90")
    job = lab.submit(run)
    lab.wait_saved(run)
    # SLURM checks time limits every half minute, and wakes stopped processes to signal them
    with lab.paused(run):
        minutes = int((time.time() - starts(run)[0]["time"]) / 60) + 2
        lab.cluster.ask("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes}")
        wait_until(lambda: ends(run), "warning", seconds=120)
        # the limit holds for the next turn, too
        lab.cluster.ask("scontrol", "update", f"JobId={job}", "TimeLimit=30")
    assert_it_went_on(lab, run, "timeout")
    assert not lost_steps(run, 1)


def test_the_warning_signal(lab: Lab) -> None:
    run = lab.new_run("warned")
    job = lab.submit(run)
    lab.wait_saved(run)
    lab.cluster.ask("scancel", "--signal=USR2", job)
    assert_it_went_on(lab, run, "timeout")
    assert not lost_steps(run, 1)


@on("bare")
def test_the_warning_signal_before_training_listens(lab: Lab) -> None:
    """It comes while torch is being imported, which takes seconds."""
    run = lab.new_run("warned-early")
    job = lab.submit(run)
    wait_until(lambda: len(lab.processes(run)) == 2, "processes", seconds=60)
    time.sleep(0.5)
    lab.cluster.ask("scancel", "--signal=USR2", job)
    lab.wait_done(run)
    assert ends(run) == ["timeout", "completed"]
    assert_same_weights(run, lab.reference())


def preempt(lab: Lab, run: Run) -> None:
    """Takes all nodes for a job of higher priority; the run is stopped until SLURM signals."""
    lab.wait_saved(run)
    with lab.paused(run):
        lab.cluster.ask(
            "sbatch",
            "--partition=main",
            "--nodes=3",
            "--exclusive",
            "--output=/dev/null",
            "--wrap=true",
        )
        wait_until(lambda: ends(run), "preemption", seconds=60)


def test_preemption_by_a_job_of_higher_priority(lab: Lab) -> None:
    run = lab.new_run("preempted", "cluster.partition=low")
    lab.submit(run)
    preempt(lab, run)
    assert_it_went_on(lab, run, "preempted")
    assert not lost_steps(run, 1)


@on("accounted")
def test_preemption_that_cancels_is_answered_by_the_reconciler(lab: Lab) -> None:
    run = lab.new_run("evicted", "cluster.partition=evicted")
    first = lab.submit(run)
    preempt(lab, run)
    wait_until(lambda: not query_statuses([RunRecord.read(run)])[run.id].state.is_live, "eviction")
    assert query_statuses([RunRecord.read(run)])[run.id].state is RunState.preempted
    (step,) = reconcile.reconcile([run], lab.code, asked=False)
    assert step.action is Action.submit
    assert step.job_id != first
    assert_it_went_on(lab, run, "preempted")


@on("accounted")
def test_a_rank_killed(lab: Lab) -> None:
    run = lab.new_run("rank-killed")
    lab.submit(run)
    lab.wait_saved(run)
    lab.kill_rank(run, 1)
    assert_it_went_on(lab, run, "crash")


@on("bare")
def test_all_ranks_killed_by_scancel(lab: Lab) -> None:
    run = lab.new_run("step-killed")
    job = lab.submit(run)
    lab.wait_saved(run)
    lab.cluster.ask("scancel", "--signal=KILL", f"{job}.0")
    assert_it_went_on(lab, run, "crash")


def stopped_while_saving(run: Run, pid: int) -> bool:
    """Whether a process has a part of a checkpoint on disk, and is stopped now; else it goes on."""

    def saves() -> bool:
        return any(name.startswith(".") for name in os.listdir(run.checkpoints_dir))

    if not saves():
        return False
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, "stop")
    if saves():
        return True
    os.kill(pid, signal.SIGCONT)
    return False


@on("accounted")
def test_rank_zero_killed_in_the_middle_of_a_checkpoint(lab: Lab) -> None:
    run = lab.new_run("torn")
    lab.submit(run)
    lab.wait_saved(run)
    pid = lab.processes(run)[0]
    deadline = time.monotonic() + 120
    while not stopped_while_saving(run, pid):
        # no sleep in this loop: a checkpoint takes some milliseconds
        assert time.monotonic() < deadline
    os.kill(pid, signal.SIGKILL)
    assert_it_went_on(lab, run, "crash")


@on("accounted")
def test_a_node_without_power(lab: Lab) -> None:
    run = lab.new_run("node-down")
    lab.submit(run)
    lab.wait_saved(run)
    node = lab.nodes_of(run)[1]
    lab.cluster.power_off(node)
    try:
        # rank 0 recorded a crash, since its peer was gone
        assert_it_went_on(lab, run, "node-fail")
        assert retry_decision(RunRecord.read(run)).why.endswith("0 of them crashed")
    finally:
        lab.cluster.power_on(node)


@on("bare")
def test_a_node_set_down_by_an_administrator(lab: Lab) -> None:
    run = lab.new_run("node-set-down")
    lab.submit(run)
    lab.wait_saved(run)
    node = f"NodeName={lab.nodes_of(run)[0]}"
    # the node returns by ReturnToService
    lab.cluster.ask("scontrol", "update", node, "State=DOWN", "Reason=test")
    # the run had the time to save
    assert_it_went_on(lab, run, "preempted")
    assert retry_decision(RunRecord.read(run)).why.endswith("0 of them crashed")


@on("accounted")
def test_an_attempt_that_slurm_has_given_up_writes_nothing_any_more(lab: Lab) -> None:
    """Its slurmd dies and its processes freeze; they resume when the next attempt is running."""
    run = lab.new_run("split-brain", "cluster.nodes=1", "cluster.tasks_per_node=2")
    lab.submit(run)
    lab.wait_saved(run)
    node = lab.nodes_of(run)[0]
    with lab.paused(run) as old:
        lab.cluster.kill_slurmd(node)
        lab.wait_saved(run, attempt=2)
    lab.wait_done(run)
    wait_until(
        lambda: not any(os.path.exists(f"/proc/{pid}/root") for pid in old),
        "end of the old processes",
    )
    assert [r["attempt"] for r in starts(run)] == [1, 2]
    assert ends(run) == ["node-fail", "completed"], (
        "told by the second attempt: the batch script was on that node"
    )
    assert_nothing_lost_or_doubled(run)
    assert_same_weights(run, lab.reference())
    lab.cluster.start_slurmd(node)


@on("bare")
def test_a_cancelled_run_stays_away_until_it_is_asked_for(lab: Lab) -> None:
    run = lab.new_run("cancelled")
    job = lab.submit(run)
    lab.wait_saved(run)
    assert [ended.id for ended in submission.cancel(run)] == [job]
    wait_until(
        lambda: not query_statuses([RunRecord.read(run)])[run.id].state.is_live, "end of the job"
    )
    assert query_statuses([RunRecord.read(run)])[run.id].state is RunState.cancelled_running
    assert next(reconcile.reconcile([run], lab.code, asked=False)).action is Action.leave
    assert next(reconcile.reconcile([run], lab.code, asked=True)).action is Action.submit
    assert_it_went_on(lab, run, "preempted")


@on("bare")
def test_where_requeue_is_forbidden_a_chain_of_jobs_ends_as_one_run(lab: Lab) -> None:
    run = lab.new_run("chain", "cluster.requeue=false")
    job = lab.submit(run)
    lab.wait_saved(run)
    lab.cluster.ask("scancel", "--signal=USR2", job)
    assert_it_went_on(lab, run, "timeout")
    assert starts(run)[0]["job_id"] == job != starts(run)[1]["job_id"]


@on("accounted")
def test_torchrun_agents_pass_the_warning_on(lab: Lab) -> None:
    run = lab.new_run("agents", "cluster.starter=torchrun", "cluster.nodes=2")
    job = lab.submit(run)
    lab.wait_saved(run)
    lab.cluster.ask("scancel", "--signal=USR2", job)
    assert_it_went_on(lab, run, "timeout")


@on("bare")
def test_a_rank_that_hangs_ends_the_attempt_and_says_where(lab: Lab) -> None:
    """One rank is stopped, as in a broken driver; the other does not wait until the time limit."""
    run = lab.new_run("hung", "runtime.timeout_s=20")
    lab.submit(run)
    lab.wait_saved(run)
    os.kill(lab.processes(run)[1], signal.SIGSTOP)
    assert_it_went_on(lab, run, "hang")
    stacks = (run.dir / "logs" / "attempt1" / "rank0.err").read_text()
    assert "this is where each thread stands" in stacks
    assert "training/run/loop.py" in stacks


@on("bare")
@pytest.mark.parametrize("mem_gb", [0.2, 1.5], ids=["to import torch", "for its first step"])
def test_running_out_of_memory_is_distinguished_from_a_crash(lab: Lab, mem_gb: float) -> None:
    big = ["model.depth=6", "model.embed_dim=512", "recipe.global_batch=2000", "recipe.hflip=0"]
    few = ["cluster.max_crashes=1", "cluster.max_without_progress=1"]
    run = lab.new_run(f"memory-{mem_gb}", *big, *few, f"cluster.mem_gb={mem_gb}")
    job = lab.submit(run)
    wait_until(
        lambda: not query_statuses([RunRecord.read(run)])[run.id].state.is_live,
        "end of the job",
        seconds=90,
    )
    state = query_statuses([RunRecord.read(run)])[run.id]
    assert (state.state, state.job_id) == (RunState.out_of_memory, job), lab.account(run)
    assert "raise cluster.mem_gb" in state.detail
    assert ends(run) == ["out-of-memory"] * len(starts(run))
    assert next(reconcile.reconcile([run], lab.code, asked=False)).action is Action.give_up
