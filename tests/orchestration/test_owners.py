"""One live job for a run in a results folder that several people share, and where squeue lags."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_slurm import FakeSlurm
from views import RecordingView

from antioversmooth import cli
from antioversmooth.errors import error_message
from antioversmooth.orchestration import control, dryrun
from antioversmooth.orchestration.backend import Choice
from antioversmooth.orchestration.monitor.explain import explain
from antioversmooth.orchestration.monitor.state import query_statuses
from antioversmooth.orchestration.slurm import client, epilogue
from antioversmooth.orchestration.slurm.backend import SlurmBackend
from antioversmooth.orchestration.slurm.reconcile import Action, Step, reconcile
from antioversmooth.orchestration.slurm.submission import cancel, submit
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import Run, RunRecord, RunState, RunStatus, journal
from antioversmooth.runs.jobs import EventKind, append_event

MakeRun = Callable[..., Run]
BeginAttempt = Callable[..., int]
HOUR = 3600.0


@pytest.fixture
def run(slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot) -> Run:
    """A run with job 1 of this user."""
    run = make_run()
    submit(run, snapshot)
    return run


@pytest.fixture
def shared(run: Run, slurm: FakeSlurm) -> Run:
    """A run with job 1 of alice."""
    slurm.change("1", user="alice")
    return run


def status_of(run: Run, *, later_s: float = 0) -> RunStatus:
    return query_statuses([RunRecord.read(run, now=time.time() + later_s)])[run.id]


def step_of(run: Run, snapshot: Snapshot, *, asked: bool = True) -> Step:
    (step,) = reconcile([run], snapshot, asked=asked)
    return step


def totals_of(run: Run, snapshot: Snapshot) -> tuple[int, int]:
    """How many runs a dry run says to go on by themselves, and to start."""
    choice = Choice(SlurmBackend(), "--backend slurm")
    totals = dryrun.describe([run], choice, snapshot, run.dir.parents[2])["totals"]
    return totals["live"], totals["to_start"]


def states(slurm: FakeSlurm) -> dict[str, str]:
    return {job["id"]: job["state"] for job in slurm.jobs()}


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "COMPLETING", "SUSPENDED"])
def test_another_user_s_job_is_left_and_named(
    shared: Run, slurm: FakeSlurm, snapshot: Snapshot, state: str
) -> None:
    slurm.change("1", state=state)
    view = RecordingView()
    SlurmBackend().launch([shared], snapshot, view)
    assert "deit_s12 seed 0: job 1 of alice is" in view.messages[0]
    assert states(slurm) == {"1": state}
    record = RunRecord.read(shared)
    assert "(job 1 of alice" in explain(record, status_of(shared))


def test_a_job_that_a_cached_list_lacks_is_asked_for_by_its_id(
    shared: Run, slurm: FakeSlurm, snapshot: Snapshot
) -> None:
    slurm.cache_lists()
    assert step_of(shared, snapshot).job_id == "1"
    assert states(slurm) == {"1": "PENDING"}


@pytest.mark.parametrize("answer", ["exit 0", "echo NOTICE", "echo 'unknown option' >&2; exit 1"])
def test_a_job_that_squeue_does_not_list_at_all_is_asked_for_by_scontrol(
    shared: Run, slurm: FakeSlurm, snapshot: Snapshot, tmp_path: Path, answer: str
) -> None:
    """A wrapper lists a person's own jobs only, and knows no --jobs."""
    squeue = tmp_path / "bin" / "squeue"
    squeue.write_text(f'#!/bin/sh\ncase "$*" in *--jobs=*) {answer};; esac\n')
    assert step_of(shared, snapshot).job_id == "1"
    # nor where its turn has just ended, and it waits for the next one
    ended = {"job_id": "1", "code": 0, "state": "RUNNING"}
    append_event(shared.jobs_path, EventKind.ended, **ended)
    step = step_of(shared, snapshot)
    assert (step.action, step.status.job) == (Action.leave, "job 1 of alice")
    assert states(slurm) == {"1": "PENDING"}


def test_an_id_that_is_another_job_s_by_now_is_no_job_of_the_run(
    run: Run, slurm: FakeSlurm, snapshot: Snapshot
) -> None:
    slurm.change("1", name="else", state="RUNNING")
    assert status_of(run).state is RunState.lost


@pytest.mark.parametrize("job_id", ["1", ""])
def test_a_run_that_gives_signs_of_life_is_not_lost(
    run: Run, slurm: FakeSlurm, snapshot: Snapshot, begin_attempt: BeginAttempt, job_id: str
) -> None:
    """Another cluster's SLURM runs it, or a machine without one."""
    slurm.forget("1")
    begin_attempt(run, job_id or None)
    (run.dir / "heartbeat").touch()
    assert step_of(run, snapshot).action is Action.leave
    assert [r["event"] for r in journal.read(run.attempts_path)] == ["start"]
    assert status_of(run, later_s=HOUR).state is RunState.lost


def test_an_attempt_of_a_job_that_lives_is_not_ended_for_an_older_job(
    run: Run, slurm: FakeSlurm, snapshot: Snapshot, begin_attempt: BeginAttempt
) -> None:
    begin_attempt(run, "2")
    slurm.change("1", state="NODE_FAIL")
    assert step_of(run, snapshot).action is Action.leave
    assert run.attempts()[-1].reason is None


@pytest.mark.parametrize("hidden", ["jobs", "accounts,jobs,usage", "all"])
def test_a_job_that_slurm_hides_is_not_lost(
    shared: Run, slurm: FakeSlurm, snapshot: Snapshot, hidden: str
) -> None:
    journal.append(shared.jobs_path, {"event": "submitted", "job_id": "1", "user": "alice"})
    slurm.forget("1")
    slurm.hide_others(hidden)
    status = status_of(shared)
    assert (status.state, status.job) == (RunState.unknown, "job 1 of alice")
    assert step_of(shared, snapshot).action is Action.leave
    assert totals_of(shared, snapshot) == (1, 0)
    slurm.hide_others("usage")
    assert status_of(shared).state is RunState.lost


@pytest.mark.parametrize("reason", ["hang", "DependencyNeverSatisfied"])
def test_another_user_s_job_that_gets_nowhere_is_not_replaced(
    shared: Run, slurm: FakeSlurm, snapshot: Snapshot, begin_attempt: BeginAttempt, reason: str
) -> None:
    if reason == "hang":
        begin_attempt(shared, "1", time=time.time() - HOUR)
        slurm.change("1", state="RUNNING", start="2020-01-01T00:00:00")
    else:
        slurm.change("1", reason=reason)
    assert step_of(shared, snapshot).action is Action.leave
    assert totals_of(shared, snapshot) == (1, 0)
    assert len(slurm.jobs()) == 1
    assert not [a for a in shared.attempts() if a.ended is not None]


def double(run: Run, slurm: FakeSlurm, snapshot: Snapshot, **facts: str) -> None:
    """Gives a run a second job, as a launch of another version of this project does."""
    name = slurm.jobs()[0]["name"]
    slurm.change("1", name="hidden")
    submit(run, snapshot)
    slurm.change("1", name=name)
    slurm.change("2", **facts)


def test_a_double_is_ended_at_the_next_look(run: Run, slurm: FakeSlurm, snapshot: Snapshot) -> None:
    double(run, slurm, snapshot)
    step = step_of(run, snapshot, asked=False)
    assert (step.action, step.job_id) == (Action.leave, "1")
    assert states(slurm) == {"1": "PENDING", "2": "CANCELLED"}
    # also when SLURM has forgotten it
    assert RunRecord.read(run).newest_job_id == "1"


def test_of_two_jobs_the_one_that_runs_goes_on(
    run: Run, slurm: FakeSlurm, snapshot: Snapshot, begin_attempt: BeginAttempt
) -> None:
    double(run, slurm, snapshot, state="RUNNING")
    begin_attempt(run, "2")
    assert step_of(run, snapshot, asked=False).job_id == "2"
    assert states(slurm) == {"1": "CANCELLED", "2": "RUNNING"}


def test_the_successor_of_a_job_that_is_ending_is_no_double(
    run: Run, slurm: FakeSlurm, snapshot: Snapshot, begin_attempt: BeginAttempt
) -> None:
    """Where the cluster forbids requeue, a turn submits it before its batch script has ended."""
    slurm.change("1", state="RUNNING")
    number = begin_attempt(run, "1")
    journal.append(run.attempts_path, {"attempt": number, "event": "end", "reason": "timeout"})
    double(run, slurm, snapshot)
    assert step_of(run, snapshot, asked=False).job_id == "2"
    assert states(slurm) == {"1": "RUNNING", "2": "PENDING"}


def test_another_user_s_double_is_named_and_left(
    run: Run, slurm: FakeSlurm, snapshot: Snapshot
) -> None:
    double(run, slurm, snapshot, user="alice")
    step = step_of(run, snapshot, asked=False)
    assert step.job_id == "1"
    assert "job 2 of alice is for this run as well" in step.why
    assert states(slurm) == {"1": "PENDING", "2": "PENDING"}


def test_one_s_own_double_of_another_user_s_job_is_ended(
    shared: Run, slurm: FakeSlurm, snapshot: Snapshot
) -> None:
    double(shared, slurm, snapshot)
    assert step_of(shared, snapshot, asked=False).job_id == "1"
    assert states(slurm) == {"1": "PENDING", "2": "CANCELLED"}


def test_a_job_of_an_edited_spec_that_may_not_be_ended_ends_no_launch(
    shared: Run, slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    view = RecordingView()
    edited = make_run("deit_s12", "recipe.epochs=3")
    SlurmBackend(prune=True).launch([edited], snapshot, view)
    assert "job 1 of alice is of a spec that was edited since; " in view.messages[0]
    assert "job 1 of alice goes on" in view.messages[0]
    assert states(slurm) == {"1": "PENDING", "2": "PENDING"}


def test_a_cancellation_names_the_job_that_it_may_not_end(
    shared: Run, slurm: FakeSlurm, snapshot: Snapshot, capsys: pytest.CaptureFixture[str]
) -> None:
    double(shared, slurm, snapshot)
    assert cli.main(["cancel", str(shared.dir)]) == 2
    said = capsys.readouterr().err
    assert "job 1 of alice goes on" in said
    assert "Access/permission denied" in said
    assert "job 2 cancelled" in said
    assert states(slurm) == {"1": "PENDING", "2": "CANCELLED"}
    assert not RunRecord.read(shared).is_cancelled
    assert status_of(shared).state is RunState.pending


def test_a_cancellation_that_scancel_does_not_do_is_none(
    run: Run,
    slurm: FakeSlurm,
    snapshot: Snapshot,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(client, "CANCEL_S", (0.0,))
    (tmp_path / "bin" / "scancel").write_text("#!/bin/sh\necho use the portal >&2\n")
    assert cli.main(["cancel", str(run.dir)]) == 2
    said = capsys.readouterr()
    assert "job 1 goes on: it is PENDING after scancel, which says: use the portal" in said.err
    assert said.out == ""
    assert RunRecord.read(run).is_cancelled


@pytest.mark.parametrize(
    ("owner", "remark"),
    [(4242, " (/shared/run belongs to user 4242)"), (0, ""), (os.geteuid(), "")],
)
def test_a_folder_that_is_closed_to_others_names_its_owner(
    monkeypatch: pytest.MonkeyPatch, owner: int, remark: str
) -> None:
    def stat(path: Path) -> SimpleNamespace:
        if path.is_relative_to("/shared/run/logs"):
            raise PermissionError(13, "Permission denied")
        return SimpleNamespace(st_uid=owner)

    monkeypatch.setattr(Path, "stat", stat)
    denied = PermissionError(13, "Permission denied", "/shared/run/logs/a")
    assert error_message(denied) == f"/shared/run/logs/a: Permission denied{remark}"
    assert error_message(OSError(28, "No space left", "/shared/run/x")).endswith("No space left")


def test_an_operator_may_end_another_user_s_job(
    shared: Run, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SLURM_USER", "alice")
    assert [job.owner for job in cancel(shared)] == ["alice"]
    assert RunRecord.read(shared).is_cancelled


def test_a_cancellation_that_was_noted_and_not_done_is_done(run: Run, slurm: FakeSlurm) -> None:
    """Its launcher died, or the controller was away, in between."""
    append_event(run.jobs_path, EventKind.cancelled)
    assert control.cancel(run) == "deit_s12 seed 0: job 1 cancelled"
    assert control.cancel(run) == "deit_s12 seed 0: cancelled already"


@pytest.mark.parametrize("made_an_attempt", [True, False])
def test_a_job_whose_run_another_job_took_over_does_not_come_back(
    run: Run, slurm: FakeSlurm, begin_attempt: BeginAttempt, made_an_attempt: bool
) -> None:
    slurm.change("1", state="RUNNING")
    started = time.time() - 1
    if made_an_attempt:
        begin_attempt(run, "1")
    begin_attempt(run, "2")
    assert epilogue.finish(run, 0, started, "1") == 75
    assert not slurm.calls("scontrol")
    assert run.attempts()[-1].reason is None


def test_a_job_whose_run_another_job_had_before_comes_back(
    run: Run, slurm: FakeSlurm, begin_attempt: BeginAttempt
) -> None:
    slurm.change("1", state="RUNNING")
    begin_attempt(run, "0", time=time.time() - HOUR)
    epilogue.finish(run, 1, time.time() - 1, "1")
    assert slurm.calls("scontrol") == ["scontrol requeue 1"]


def test_who_submitted_a_job_is_recorded(run: Run, slurm: FakeSlurm) -> None:
    assert RunRecord.read(run).job_user("1") == client.user_name() == slurm.jobs()[0]["user"]
