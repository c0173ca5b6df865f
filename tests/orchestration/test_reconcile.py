from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from completed import finish
from fake_slurm import FakeSlurm

from antioversmooth.orchestration.monitor.logs import last_log_lines
from antioversmooth.orchestration.slurm.reconcile import (
    Action,
    decide,
    leftover_jobs,
    reconcile,
)
from antioversmooth.orchestration.slurm.retry_budget import RetryDecision
from antioversmooth.orchestration.slurm.submission import submit
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import Run, RunRecord, RunState, RunStatus
from antioversmooth.runs.attempts import EndReason
from antioversmooth.runs.jobs import EventKind, append_event

MakeRun = Callable[..., Run]
BeginAttempt = Callable[..., int]
MAY, MAY_NOT = RetryDecision(True, "may"), RetryDecision(False, "may not")


@pytest.mark.parametrize(
    "state",
    [
        RunState.pending,
        RunState.held,
        RunState.requeued,
        RunState.running,
        RunState.done,
        RunState.unknown,
    ],
)
def test_live_and_unknown_runs_are_left_alone(state: RunState) -> None:
    assert decide(RunStatus(state), MAY, asked=True) is Action.leave


@pytest.mark.parametrize(
    "state",
    [
        RunState.preempted,
        RunState.timed_out,
        RunState.node_failure,
        RunState.out_of_memory,
        RunState.failed,
        RunState.lost,
    ],
)
def test_what_ended_by_itself_is_submitted_again_within_its_budget(state: RunState) -> None:
    assert decide(RunStatus(state), MAY, asked=False) is Action.submit
    assert decide(RunStatus(state), MAY_NOT, asked=False) is Action.give_up


@pytest.mark.parametrize(
    "state", [RunState.cancelled_pending, RunState.cancelled_running, RunState.stopped]
)
def test_what_a_person_ended_starts_again_only_when_a_person_asks(state: RunState) -> None:
    assert decide(RunStatus(state), MAY, asked=False) is Action.leave
    assert decide(RunStatus(state), MAY, asked=True) is Action.submit


@pytest.mark.parametrize(
    "state", [RunState.hung, RunState.dependency_failed], ids=lambda state: state.value
)
def test_a_job_that_will_get_nowhere_is_replaced(state: RunState) -> None:
    assert decide(RunStatus(state), MAY, asked=False) is Action.replace


def chain(make_run: MakeRun) -> list[Run]:
    """A run, and the one whose weights it starts from, before it."""
    run = make_run("cait_s24_featscale")
    assert run.upstream is not None
    return [run.upstream, run]


def test_a_table_is_submitted_in_one_go_and_once(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    wanted = [make_run(seed=seed) for seed in range(3)]
    assert [step.action for step in reconcile(wanted, snapshot)] == [Action.submit] * 3
    assert [step.action for step in reconcile(wanted, snapshot)] == [Action.leave] * 3
    assert len(slurm.jobs()) == 3


def test_a_run_waits_for_the_job_of_the_run_it_starts_from(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    list(reconcile(chain(make_run), snapshot))
    assert [job["dependency"] for job in slurm.jobs()] == ["singleton", "afterok:1,singleton"]


def test_a_run_does_not_wait_for_one_that_is_done(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    before, run = chain(make_run)
    before.prepare()
    finish(before)
    list(reconcile([before, run], snapshot))
    assert [job["dependency"] for job in slurm.jobs()] == ["singleton"]


def test_a_run_is_blocked_by_one_that_was_given_up(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    before, run = chain(make_run)
    before.prepare()
    append_event(before.jobs_path, EventKind.submitted, job_id="41")
    append_event(
        before.jobs_path, EventKind.ended, job_id="41", code=2, attempt=None, state="RUNNING"
    )
    given_up, blocked = reconcile([before, run], snapshot)
    assert (given_up.action, blocked.action) == (Action.give_up, Action.blocked)
    assert not slurm.jobs()


def test_a_silent_job_is_replaced_though_it_takes_a_while_to_go(
    slurm: FakeSlurm,
    make_run: MakeRun,
    snapshot: Snapshot,
    begin_attempt: BeginAttempt,
    tmp_path: Path,
) -> None:
    run = make_run("deit_s12", "runtime.timeout_s=1")
    submit(run, snapshot)
    begin_attempt(run, "1", time=time.time() - 60)
    slurm.change("1", state="RUNNING", nodes="node1", start="2020-01-01T00:00:00")
    # the processes need a while to end
    path = slurm.home / "jobs" / "1.json"
    ending = f"#!/bin/sh\nsed -i s/RUNNING/COMPLETING/ {path}\n"
    (tmp_path / "bin" / "scancel").write_text(ending)
    (step,) = reconcile([run], snapshot, asked=False)
    assert (step.action, step.job_id) == (Action.replace, "2")
    assert run.attempts()[-1].reason.value == "hang"


def test_a_job_whose_dependency_failed_follows_the_new_job(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    both = chain(make_run)
    list(reconcile(both, snapshot))
    slurm.change("1", state="NODE_FAIL")
    slurm.change("2", reason="DependencyNeverSatisfied")
    list(reconcile(both, snapshot))
    live = {job["id"]: job["dependency"] for job in slurm.jobs() if job["state"] == "PENDING"}
    assert live == {"3": "singleton", "4": "afterok:3,singleton"}


def test_an_attempt_that_could_not_write_its_end_gets_it_from_slurm(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot, begin_attempt: BeginAttempt
) -> None:
    run = make_run()
    submit(run, snapshot)
    begin_attempt(run, "1")
    slurm.change("1", state="NODE_FAIL", nodes="node2")
    list(reconcile([run], snapshot))
    last = run.attempts()[-1]
    assert last.reason is EndReason.node_fail


def test_jobs_of_a_spec_that_was_edited_since_are_listed(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    old, other_seed = make_run("deit_s12", "recipe.epochs=3"), make_run(seed=1)
    for run in (old, other_seed):
        submit(run, snapshot)
    new = make_run("deit_s12")
    assert [(run.dir, job.id) for run, job in leftover_jobs([new])] == [(old.dir, "1")]


def test_jobs_of_other_rows_of_a_spec_are_not_left_over(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    plain = make_run("deit_s12")
    swept = make_run("deit_s12", "recipe.base_lr=1e-3")
    row = replace(swept.experiment, row="deit_s12-base_lr_0.001")
    swept = replace(swept, experiment=row)
    for run in (plain, swept):
        run.prepare()
        submit(run, snapshot)
    assert leftover_jobs([plain]) == []
    assert leftover_jobs([swept]) == []


def test_a_command_that_a_signal_ended_is_one_short_line(make_run: MakeRun) -> None:
    run = make_run("deit_s12")
    (run.dir / "slurm").mkdir()
    command = f"( echo setup >| /x/stage; {'module load cuda; ' * 100})"
    lines = [f"/x/job.sh: line 30: {pid:5} Killed                  {command}" for pid in (7, 81234)]
    lines.append(f"srun: {'x' * 2000}")
    (run.dir / "slurm" / "1_0_log.err").write_text("\n".join(lines))
    said = last_log_lines(RunRecord.read(run)).splitlines()
    assert said == ["    /x/job.sh: line 30: Killed", f"    srun: {'x' * 294}..."]


def test_last_words_are_of_the_rank_that_failed(make_run: MakeRun) -> None:
    run = make_run()
    assert last_log_lines(RunRecord.read(run)) == ""
    raw = run.dir / "slurm" / "1_0_log.err"
    raw.parent.mkdir()
    raw.write_text("ModuleNotFoundError: No module named 'torch'\n")
    assert "No module named 'torch'" in last_log_lines(RunRecord.read(run))
    folder = run.dir / "logs" / f"attempt{run.new_attempt()}"
    (folder / "rank0.err").write_text("waiting for the others\n")
    (folder / "rank1.err").write_text("Traceback ...\nZeroDivisionError\n")
    assert "ZeroDivisionError" in last_log_lines(RunRecord.read(run))
