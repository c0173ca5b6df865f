from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from antioversmooth.training.run.signals import StepAction, StopRequest, action_for_signal, is_alive

JOB = {"SLURM_JOB_ID": "7"}


@pytest.mark.parametrize(
    ("number", "environment", "action"),
    [
        (signal.SIGINT, {}, StepAction.cancelled),
        (signal.SIGINT, JOB, StepAction.cancelled),
        (signal.SIGTERM, {}, StepAction.cancelled),
        (signal.SIGTERM, JOB, StepAction.preempted),
        (signal.SIGUSR2, JOB, StepAction.timeout),
        (signal.SIGUSR1, {**JOB, "SLURM_JOB_END_TIME": "1180"}, StepAction.timeout),
        (signal.SIGUSR2, {**JOB, "SLURM_JOB_END_TIME": "9000"}, StepAction.preempted),
    ],
)
def test_each_signal_requests_its_action(
    number: int, environment: dict[str, str], action: StepAction
) -> None:
    assert action_for_signal(number, environment, now=1000) is action


def test_a_signal_sets_a_flag_and_handlers_are_restored() -> None:
    before = signal.getsignal(signal.SIGUSR2)
    stop = StopRequest()
    with stop.signal_handlers():
        os.kill(os.getpid(), signal.SIGUSR2)
        assert stop.action.stops
    assert signal.getsignal(signal.SIGUSR2) == before


def test_no_handler_is_set_outside_the_main_thread() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def listen() -> None:
        with StopRequest().signal_handlers():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_forked_child_does_not_stop_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = StopRequest()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    stop._handle(signal.SIGTERM, None)
    assert stop.action is StepAction.proceed


def test_the_most_severe_action_wins() -> None:
    stop = StopRequest()
    stop.add(StepAction.timeout)
    stop.add(StepAction.cancelled)
    assert stop.action is StepAction.timeout


def test_a_supervised_process_stops_when_its_parent_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    supervised, alone = StopRequest(supervised=True), StopRequest()
    monkeypatch.setattr(os, "getppid", lambda: 1)
    for stop in (supervised, alone):
        stop.check_parents()
    assert (supervised.action, alone.action) == (StepAction.cancelled, StepAction.proceed)


def test_a_process_that_ended_is_not_alive_even_uncollected() -> None:
    assert is_alive(os.getpid())
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not is_alive(child.pid)
    assert not is_alive(child.pid)


@pytest.mark.parametrize("action", [StepAction.superseded, StepAction.disk_full, StepAction.crash])
def test_superseded_and_failed_attempts_do_not_save(action: StepAction) -> None:
    assert action.stops
    assert not action.saves
