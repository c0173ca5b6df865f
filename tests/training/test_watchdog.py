from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch

from antioversmooth.runs import Run, journal
from antioversmooth.training.run import watchdog
from antioversmooth.training.run.attempt import Attempt
from antioversmooth.training.run.distributed import RankInfo, Ranks


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set where the process would have ended."""
    exited = threading.Event()
    monkeypatch.setattr("antioversmooth.training.run.watchdog.os._exit", lambda code: exited.set())
    return exited


@pytest.fixture
def attempt(tiny_run: Callable[..., Run]) -> Callable[..., Attempt]:
    def make(rank: int = 0) -> Attempt:
        run = tiny_run("runtime.timeout_s=0.4")
        ranks = Ranks(RankInfo(rank, 2, rank, 2, "torchrun"), torch.device("cpu"), None)
        return Attempt(run, ranks, run.new_attempt(), None)

    return make


class Looks(threading.Event):
    """Lets so many looks pass at once, and does something before each."""

    def __init__(self, number: int, before: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._left, self._before = number, before

    def wait(self, timeout: float | None = None) -> bool:
        self._left -= 1
        self._before()
        return self._left < 0


def test_a_hung_process_prints_its_stacks_and_ends_as_hang(
    attempt: Callable[..., Attempt], exits: threading.Event, capfd: pytest.CaptureFixture[str]
) -> None:
    hung = attempt()
    with watchdog.watching(hung):
        hung.ranks.progress.mark()
        assert exits.wait(60)
    end = journal.read(hung.run.attempts_path)[-1]
    assert (end["event"], end["reason"]) == ("end", "hang")
    assert "rank 0 got no further" in end["message"]
    said = capfd.readouterr().err
    assert "test_a_hung_process_prints_its_stacks_and_ends_as_hang" in said, (
        "the stack of the main thread"
    )


def test_the_stacks_are_there_before_the_others_give_up(
    attempt: Callable[..., Attempt], exits: threading.Event, capfd: pytest.CaptureFixture[str]
) -> None:
    hung = attempt()
    hung.ranks.progress.mark()
    watchdog._watch(hung, Looks(watchdog.LOOKS))
    assert "this is where each thread stands" in capfd.readouterr().err
    assert not exits.is_set()


def test_a_hang_of_another_rank_is_journaled_as_its_failure(
    attempt: Callable[..., Attempt], exits: threading.Event
) -> None:
    hung = attempt(1)
    hung.ranks.progress.mark()
    watchdog._watch(hung, Looks(2 * watchdog.LOOKS))
    assert exits.is_set()
    assert [record["event"] for record in journal.read(hung.run.attempts_path)] == ["failure"]


def test_progress_or_a_slow_start_does_not_end_a_process(
    attempt: Callable[..., Attempt], exits: threading.Event, capfd: pytest.CaptureFixture[str]
) -> None:
    waiting, busy = attempt(), attempt()
    watchdog._watch(waiting, Looks(4 * watchdog.LOOKS))
    watchdog._watch(busy, Looks(5 * watchdog.LOOKS, before=busy.ranks.progress.mark))
    assert not exits.is_set()
    assert not capfd.readouterr().err


def test_a_process_without_a_first_batch_ends_as_hang(
    attempt: Callable[..., Attempt], exits: threading.Event
) -> None:
    """A file system that is gone, say: every rank waits for its first image."""
    hung = attempt()
    watchdog._watch(hung, Looks(8 * watchdog.LOOKS))
    assert exits.is_set()
    assert journal.read(hung.run.attempts_path)[-1]["reason"] == "hang"
