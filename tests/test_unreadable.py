"""Files of a run directory that are there and cannot be read: a state or one message, and every
other run is shown."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import completed
import pytest

from antioversmooth.orchestration.backend import Outcome, untrusted_outcomes
from antioversmooth.orchestration.monitor.state import query_statuses
from antioversmooth.orchestration.monitor.status import statuses
from antioversmooth.reporting.table.observe import observe
from antioversmooth.runs import Run, RunRecord, RunState, journal, recorded_data
from antioversmooth.runs.record import read_records

MakeRun = Callable[..., Run]


def folder(path: Path) -> None:
    path.mkdir()


def loop(path: Path) -> None:
    path.symlink_to(path)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def cut(path: Path) -> None:
    path.write_text("{")


def numbers(path: Path) -> None:
    path.write_text("[1, 2]")


def binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)))


def foreign(path: Path) -> None:
    path.write_text('{"time": "x", "backend": 5, "host": [], "data": 7, "packages": 1}')


@pytest.fixture
def began(make_run: MakeRun) -> Run:
    run = make_run("deit_s12")
    start = {"attempt": 1, "event": "start", "step": 0}
    journal.append(run.attempts_path, start)
    journal.append(run.attempts_path, {**start, "event": "end", "reason": "crash"})
    return run


@pytest.mark.parametrize("spoil", [folder, loop, pipe])
@pytest.mark.parametrize("name", ["attempts.jsonl", "metrics.jsonl", "jobs.jsonl"])
@pytest.mark.parametrize("done", [True, False])
def test_a_journal_that_cannot_be_read_makes_its_run_failed_and_is_named(
    began: Run, make_run: MakeRun, name: str, spoil: Callable[[Path], None], done: bool
) -> None:
    other = completed.finish(make_run("swin_s"))
    if done:
        completed.finish(began)
    (began.dir / name).unlink(missing_ok=True)
    spoil(began.dir / name)
    failed, fine = statuses([began, other], [])
    assert (failed["state"], fine["state"]) == ("failed", "done")
    assert f"{name} cannot be read" in failed["detail"]
    assert f"{name} cannot be read" in observe(began).problem
    # a launch leaves it alone, and goes on with the others
    assert untrusted_outcomes(read_records([began, other])) == {began.id: Outcome.failed}


@pytest.mark.parametrize("spoil", [folder, loop, pipe])
def test_a_result_that_cannot_be_read_makes_its_run_failed(
    began: Run, spoil: Callable[[Path], None]
) -> None:
    spoil(began.dir / "result.json")
    assert "result.json is not JSON (it is no file)" in RunRecord.read(began).status.detail


@pytest.mark.parametrize("spoil", [folder, loop, cut, numbers, binary, foreign])
@pytest.mark.parametrize("name", ["intent.json", "provenance.json", "imported.json", "heartbeat"])
def test_what_no_number_depends_on_is_not_recorded_where_it_cannot_be_read(
    began: Run, name: str, spoil: Callable[[Path], None]
) -> None:
    spoil(began.dir / name)
    record = RunRecord.read(began)
    assert query_statuses([record])[began.id].state is RunState.failed
    seen = observe(began)
    assert seen.state is RunState.failed
    assert seen.provenance is not None
    assert recorded_data(began.dir) == {}
