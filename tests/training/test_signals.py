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
def test_what_a_signal_means(number: int, environment: dict[str, str], action: StepAction) -> None:
    assert action_for_signal(number, environment, now=1000) is action


def test_a_signal_sets_a_flag_and_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGUSR2)
    stop = StopRequest()
    with stop.signal_handlers():
        os.kill(os.getpid(), signal.SIGUSR2)
        assert stop.action.stops
    assert signal.getsignal(signal.SIGUSR2) == before


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def listen() -> None:
        with StopRequest().signal_handlers():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_forked_child_does_not_take_part(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = StopRequest()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    stop._handle(signal.SIGTERM, None)
    assert stop.action is StepAction.proceed


def test_the_gravest_reason_stays() -> None:
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
def test_where_saving_makes_no_sense_nothing_is_saved(action: StepAction) -> None:
    assert action.stops
    assert not action.saves
