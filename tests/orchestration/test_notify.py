"""Events for a person: each end once, whoever sees it, and never a reason to wait or to fail."""

from __future__ import annotations

import json
import runpy
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import completed
import pytest
from fake_slurm import FakeSlurm
from views import RecordingView

from antioversmooth.errors import LaunchError
from antioversmooth.orchestration import devices
from antioversmooth.orchestration.backend import Launched, Outcome
from antioversmooth.orchestration.local.pool import LocalBackend
from antioversmooth.orchestration.notify import command, events
from antioversmooth.orchestration.notify.events import Event
from antioversmooth.orchestration.slurm import reconcile
from antioversmooth.orchestration.slurm.backend import SlurmBackend
from antioversmooth.orchestration.slurm.epilogue import finish
from antioversmooth.orchestration.slurm.submission import submit
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import Run, journal
from antioversmooth.runs.jobs import EventKind, append_event

PROJECT = Path(__file__).parents[2]
MakeRun = Callable[..., Run]
Received = Callable[[], list[dict[str, Any]]]


def wait_for_calls() -> None:
    for thread in threading.enumerate():
        if thread.name == "notify":
            thread.join(60)


@pytest.fixture(autouse=True)
def no_calls_left() -> Iterator[None]:
    yield
    wait_for_calls()


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that keeps what it gets; the command of all runs."""
    path = tmp_path / "a person's phone"
    path.write_text(f"#!/bin/sh\ncat >> {shlex.quote(str(tmp_path / 'received'))}\n")
    path.chmod(0o755)
    monkeypatch.setenv(command.VARIABLE, shlex.quote(str(path)))
    return path


@pytest.fixture
def received(script: Path) -> Received:
    """The events so far."""

    def read() -> list[dict[str, Any]]:
        wait_for_calls()
        path = script.with_name("received")
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    return read


@pytest.mark.parametrize(
    ("behaviour", "event"),
    [
        ("done", "run_done"),
        ("crash done", "run_done"),
        ("crash crash", "run_given_up"),
        ("refuse", "run_failed"),
        ("fill", "run_failed"),
        ("stop", None),
    ],
)
def test_the_end_of_a_local_run_is_one_event(
    received: Received,
    told: Callable[..., Run],
    stand_in: Snapshot,
    monkeypatch: pytest.MonkeyPatch,
    behaviour: str,
    event: str | None,
) -> None:
    monkeypatch.setattr(devices, "visible_gpus", list)
    run, view = told(behaviour), RecordingView()
    LocalBackend().launch([run], stand_in, view)
    events.run_over(run, view.say)
    assert [one["event"] for one in received()] == [event] * (event is not None)
    for one in received():
        assert (one["id"], one["seed"], one["dir"]) == (run.id, 0, str(run.dir))
        assert one["metrics"] == (completed.RESULT["metrics"] if event == "run_done" else None)
        assert one["command"] == f"python -m antioversmooth why {shlex.quote(str(run.dir))}"
        assert time.time() - one["time"] < 600


@pytest.fixture
def start(slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot) -> Callable[..., Run]:
    """A run whose job 1 runs, and that may crash once."""

    def submitted() -> Run:
        run = make_run("deit_s12", "cluster.max_crashes=1")
        submit(run, snapshot)
        slurm.change("1", state="RUNNING")
        return run

    return submitted


def follow(run: Run, snapshot: Snapshot) -> None:
    """A launch on SLURM that finds nothing to do."""
    SlurmBackend(follow=True, refresh_s=0).launch([run], snapshot, RecordingView())


def test_a_done_run_on_slurm_is_one_event_though_two_see_it(
    received: Received, start: Callable[..., Run], slurm: FakeSlurm, snapshot: Snapshot
) -> None:
    run = start()
    completed.finish(run)
    assert finish(run, 0, 0.0, "1") == 0
    finish(run, 0, 0.0, "1")
    slurm.change("1", state="COMPLETED")
    follow(run, snapshot)
    assert [one["event"] for one in received()] == ["run_done"]


def crash(run: Run, begin_attempt: Callable[..., int], job_id: str) -> None:
    number = begin_attempt(run, job_id)
    end = {"attempt": number, "event": "end", "reason": "crash", "message": "the loss is NaN"}
    journal.append(run.attempts_path, end)
    finish(run, 1, 0.0, job_id)


def test_a_run_that_is_given_up_is_an_event_again_only_after_a_retry(
    received: Received,
    start: Callable[..., Run],
    slurm: FakeSlurm,
    snapshot: Snapshot,
    begin_attempt: Callable[..., int],
) -> None:
    run = start()
    crash(run, begin_attempt, "1")
    slurm.change("1", state="FAILED")
    follow(run, snapshot)
    (event,) = received()
    assert (event["event"], event["reason"]) == ("run_given_up", "crash")
    assert "the loss is NaN; it crashed once" in event["message"]
    reconcile.retry(run)
    submit(run, snapshot)
    slurm.change("2", state="RUNNING")
    crash(run, begin_attempt, "2")
    assert [one["event"] for one in received()] == ["run_given_up"] * 2


def test_a_run_whose_batch_script_died_is_an_event_of_the_next_look(
    received: Received,
    start: Callable[..., Run],
    slurm: FakeSlurm,
    snapshot: Snapshot,
    begin_attempt: Callable[..., int],
) -> None:
    run = start()
    journal.append(
        run.attempts_path,
        {"attempt": begin_attempt(run, "1"), "event": "end", "reason": "disk-full", "message": "x"},
    )
    slurm.change("1", state="FAILED")
    for _ in range(2):
        follow(run, snapshot)
    assert [one["event"] for one in received()] == ["run_failed"]


@pytest.mark.parametrize("kind", ["requeued", "cancelled"])
def test_an_end_that_is_not_final_or_that_a_person_wanted_is_no_event(
    received: Received,
    start: Callable[..., Run],
    begin_attempt: Callable[..., int],
    kind: str,
) -> None:
    run = start()
    number = begin_attempt(run, "1")
    journal.append(run.attempts_path, {"attempt": number, "event": "end", "reason": "preempted"})
    if kind == "cancelled":
        append_event(run.jobs_path, EventKind.cancelled, attempt=number)
    finish(run, 0, 0.0, "1")
    assert received() == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("sh -c 'echo no network >&2; exit 3'", "sh ended with exit code 3: no network"),
        ("sh -c 'exec sleep 600'", "sh took longer than 0 s, and was ended"),
        ("sh -c 'trap \"\" TERM; sleep 600 & sleep 600'", "sh took longer than 0 s"),
        ("/no/such/program", "/no/such/program cannot be called"),
        ("sh -c 'printf \"\\033[2J token=secret1234\" >&2; exit 1'", "\\u001b[2J token=(hidden)"),
        ("sh 'unclosed", "No closing quotation"),
    ],
    ids=["fails", "hangs", "hangs with children", "is missing", "shows secrets", "is torn"],
)
def test_a_command_that_fails_or_hangs_is_one_line(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, line: str, problem: str
) -> None:
    monkeypatch.setenv(command.VARIABLE, line)
    monkeypatch.setattr(command, "LIMIT_S", 0.3)
    lines: list[str] = []
    events.run_ended(completed.finish(make_run("deit_s12")), Event.run_done, "", lines.append)
    wait_for_calls()
    assert len(lines) == 1
    assert problem in lines[0]


def test_the_caller_does_not_wait_for_the_command(
    tmp_path: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = f"sh -c 'until [ -e {tmp_path / 'go'} ]; do sleep 0.01; done'"
    monkeypatch.setenv(command.VARIABLE, waits)
    lines: list[str] = []
    thread = events.run_ended(make_run("deit_s12"), Event.run_failed, "", lines.append)
    assert thread is not None
    assert thread.is_alive()
    (tmp_path / "go").touch()
    thread.join(60)
    assert lines == []


def test_a_command_is_called_where_no_file_can_record_it(
    received: Received, make_run: MakeRun
) -> None:
    run = make_run("deit_s12")
    (run.dir / command.FOLDER).write_text("in the way")
    for _ in range(2):
        events.run_ended(run, Event.run_failed, "disk full, token=secret1234", print)
    (event,) = received()
    assert event["message"] == "disk full, token=(hidden)"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/no/such/program -x", "cluster.notify: there is no program /no/such/program"),
        ("curl -d @- https://hooks.slack.com/services/T0/B0/x1y2z3", "holds a secret"),
        ("sh 'torn", "cluster.notify: sh 'torn: No closing quotation"),
    ],
)
def test_a_command_that_could_never_be_called_is_refused_before_a_launch(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, line: str, message: str
) -> None:
    monkeypatch.delenv(command.VARIABLE, raising=False)
    cluster = make_run("deit_s12").experiment.cluster
    cluster.notify = line
    with pytest.raises(LaunchError) as raised:
        command.check([cluster])
    assert message in str(raised.value)
    monkeypatch.setenv(command.VARIABLE, "")
    command.check([cluster])
    assert command.command(cluster) == []


@pytest.mark.parametrize("outcome", [Outcome.done, Outcome.failed])
def test_a_table_is_an_event_when_its_launch_is_over(
    received: Received,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    outcome: Outcome,
) -> None:
    def train(self: LocalBackend, runs: list[Run], *_: object) -> Launched:
        for run in runs:
            run.prepare()
            if outcome is Outcome.done:
                completed.finish(run)
        return Launched(dict.fromkeys((run.id for run in runs), outcome))

    monkeypatch.setattr(LocalBackend, "launch", train)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    main = runpy.run_path(str(PROJECT / "launch.py"))["main"]
    results = f"cluster.results={tmp_path / 'results'}"
    arguments = ["table2", "profile=mini", "--backend=local", results]
    is_done = outcome is Outcome.done
    for _ in range(2):
        assert main(arguments) == (0 if is_done else 1)
    (event,) = received()
    sample = (PROJECT / "docs" / "notify.md").read_text().split("```json")[1].split("```")[0]
    assert list(event) == list(json.loads(sample))
    assert event["event"] == ("table_done" if is_done else "table_incomplete")
    assert (event["name"], event["message"]) == ("table2", f"12 of 12 {outcome.value}")
    assert set(event["metrics"].values()) == ({91.5} if is_done else set())
