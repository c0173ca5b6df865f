from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from antioversmooth.training.run.signals import StopRequest, Vote, is_alive, meaning

JOB = {"SLURM_JOB_ID": "7"}


@pytest.mark.parametrize(
    ("number", "environment", "vote"),
    [
        (signal.SIGINT, {}, Vote.cancelled),
        (signal.SIGINT, JOB, Vote.cancelled),
        (signal.SIGTERM, {}, Vote.cancelled),
        (signal.SIGTERM, JOB, Vote.preempted),
        (signal.SIGUSR2, JOB, Vote.timeout),
        (signal.SIGUSR1, {**JOB, "SLURM_JOB_END_TIME": "1180"}, Vote.timeout),
        (signal.SIGUSR2, {**JOB, "SLURM_JOB_END_TIME": "9000"}, Vote.preempted),
    ],
)
def test_what_a_signal_means(number: int, environment: dict[str, str], vote: Vote) -> None:
    assert meaning(number, environment, now=1000) is vote


def test_a_signal_sets_a_flag_and_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGUSR2)
    stop = StopRequest()
    with stop.listening():
        os.kill(os.getpid(), signal.SIGUSR2)
        assert stop.vote.stops
    assert signal.getsignal(signal.SIGUSR2) == before


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def listen() -> None:
        with StopRequest().listening():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_forked_child_does_not_take_part(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = StopRequest()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    stop._handle(signal.SIGTERM, None)
    assert stop.vote is Vote.go_on


def test_the_gravest_reason_stays() -> None:
    stop = StopRequest()
    stop.set(Vote.timeout)
    stop.set(Vote.cancelled)
    assert stop.vote is Vote.timeout


def test_a_supervised_process_stops_when_its_parent_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    supervised, alone = StopRequest(supervised=True), StopRequest()
    monkeypatch.setattr(os, "getppid", lambda: 1)
    for stop in (supervised, alone):
        stop.check_parents()
    assert (supervised.vote, alone.vote) == (Vote.cancelled, Vote.go_on)


def test_a_process_that_ended_is_not_alive_even_uncollected() -> None:
    assert is_alive(os.getpid())
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not is_alive(child.pid)
    assert not is_alive(child.pid)


@pytest.mark.parametrize("vote", [Vote.superseded, Vote.disk_full, Vote.crash])
def test_where_saving_makes_no_sense_nothing_is_saved(vote: Vote) -> None:
    assert vote.stops
    assert not vote.saves
