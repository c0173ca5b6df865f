from __future__ import annotations

import io
import re
import time
from collections.abc import Callable

import pytest
from completed import finish
from rich.console import Console

from antioversmooth.orchestration.monitor import progress, view
from antioversmooth.orchestration.monitor.progress import Progress, Reader, progress_of
from antioversmooth.runs import Run, RunRecord, RunState, journal

MakeRun = Callable[..., Run]


def read(run: Run) -> Progress:
    return progress_of(RunRecord.read(run))


def start(run: Run, attempt: int = 1, step: int = 0) -> None:
    journal.append(run.attempts_path, {"attempt": attempt, "event": "start", "step": step})


def epoch(run: Run, number: int, top1: float, attempt: int = 1) -> None:
    step = number * run.experiment.steps_per_epoch
    train = {"train/loss": 2.0 / number, "throughput/images_per_s": 400.0}
    journal.append(run.metrics_path, {"attempt": attempt, "step": step, "epoch": number, **train})
    journal.append(
        run.metrics_path, {"attempt": attempt, "step": step, "epoch": number, "val/top1": top1}
    )


def test_progress_comes_from_the_journals_alone(make_run: MakeRun) -> None:
    run = make_run("deit_s12", "recipe.epochs=4")
    start(run)
    epoch(run, 1, 61.0)
    now = read(run)
    batch, steps = run.experiment.recipe.global_batch, run.experiment.steps_per_epoch
    assert (now.state, now.epochs_done, now.epochs, now.attempts) == (RunState.running, 1, 4, 1)
    assert (now.loss, now.top1, now.images_per_s, now.fraction) == (2.0, 61.0, 400.0, 0.25)
    assert now.remaining_s == 3 * steps * batch / 400.0


def test_the_accuracy_is_that_of_the_last_epoch_in_whatever_order_its_line_lies(
    make_run: MakeRun,
) -> None:
    run = make_run("deit_s12", "recipe.epochs=4")
    start(run)
    for number, top1 in ((2, 75.0), (1, 61.0), (2, 75.0)):
        epoch(run, number, top1)
    assert (read(run).epochs_done, read(run).top1) == (2, 75.0)


def test_steps_that_a_later_attempt_superseded_do_not_count(make_run: MakeRun) -> None:
    run = make_run("deit_s12", "recipe.epochs=4")
    start(run)
    epoch(run, 1, 61.0)
    epoch(run, 2, 75.0)
    start(run, attempt=2, step=run.experiment.steps_per_epoch)
    assert (read(run).epochs_done, read(run).top1, read(run).attempts) == (1, 61.0, 2)


def test_a_run_that_never_started_has_no_progress(make_run: MakeRun) -> None:
    now = read(make_run("deit_s12"))
    assert (now.state, now.fraction, now.top1, now.remaining_s) == (
        RunState.missing,
        0.0,
        None,
        None,
    )


def test_an_unchanged_journal_is_read_once(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("deit_s12")
    start(run)
    epoch(run, 1, 61.0)
    reader, calls = Reader([run]), []
    monkeypatch.setattr(
        progress, "progress_of", lambda record: calls.append(record.run) or progress_of(record)
    )
    reader.read()
    reader.read()
    assert len(calls) == 1
    epoch(run, 2, 75.0)
    assert reader.read()[run.id].top1 == 75.0


def test_lines_tell_changes_and_epochs_once(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "REFRESH_S", 0.0)
    run, stream = make_run("deit_s12", "recipe.epochs=2"), io.StringIO()
    with view.open_view([run], stream) as shown:
        shown.update({})
        start(run)
        for _ in range(3):
            shown.update({})
        epoch(run, 1, 61.04)
        shown.update({})
        shown.say("a message")
        epoch(run, 2, 75.0)
        finish(run, metrics={"val/top1": 75.0})
    lines = [line.split("  ", 1)[1] for line in stream.getvalue().splitlines()]
    assert [" ".join(line.split()) for line in lines] == [
        "deit_s12 seed 0 running epoch 0/2",
        "deit_s12 seed 0 running epoch 1/2, loss 2.000, top-1 61.0 %, 400 images/s, 0:10 left",
        "a message",
        "deit_s12 seed 0 done epoch 2/2, loss 1.000, top-1 75.0 %",
    ]


def test_what_the_back_end_knows_stands_before_what_the_directory_says(make_run: MakeRun) -> None:
    run, stream = make_run("deit_s12"), io.StringIO()
    with view.open_view([run], stream) as shown:
        shown.update({run.id: "blocked"})
    assert "deit_s12 seed 0              blocked" in stream.getvalue()


def drawn(runs: list[Run], width: int, height: int) -> str:
    known = Reader(runs).read()
    labels = {run.id: view.label(known[run.id], None) for run in runs}
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    with console.capture() as captured:
        console.print(view.progress_table(runs, known, labels, width, height))
    return captured.get()


@pytest.mark.parametrize("width", [50, 60, 80, 100, 160])
def test_the_table_fits_its_terminal(width: int, make_run: MakeRun) -> None:
    run = make_run("deit_s12_featscale")
    start(run)
    epoch(run, 1, 61.04)
    text = drawn([run], width, height=20)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert "deit_s12_featscale" in text
    assert "61.0" in text


def test_a_low_terminal_shows_the_living_runs_first(make_run: MakeRun) -> None:
    runs = [make_run("deit_s12", seed=seed) for seed in range(6)]
    start(runs[4])
    text = drawn(runs, width=100, height=1)
    assert "running" in text.splitlines()[1]
    assert "5 waiting, 1 running" in text


def test_a_live_view_ends_with_the_last_state(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    run, stream = make_run("deit_s12"), io.StringIO()
    with view.LiveView([run], stream) as shown:
        shown.update({})
        finish(run)
        shown.say("[a] message")
    assert "[a] message" in stream.getvalue()
    assert "1 done" in stream.getvalue().splitlines()[-1]


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (0.4, "0:00"), (65, "1:05"), (3723, "1:02:03")]
)
def test_durations(seconds: float | None, text: str) -> None:
    assert view.duration(seconds) == text


def test_a_dead_attempt_does_not_stay_running(make_run: MakeRun) -> None:
    run = make_run("deit_s12")
    long_ago = time.time() - 3600
    journal.append(run.attempts_path, {"time": long_ago, "attempt": 1, "event": "start", "step": 0})
    assert Reader([run]).read()[run.id].state is RunState.lost


def test_a_row_is_named_once_and_its_seeds_stand_below_each_other(make_run: MakeRun) -> None:
    runs = [make_run("deit_s12", seed=seed) for seed in range(2)]
    start(runs[0])
    header, *lines = drawn(runs, width=60, height=20).splitlines()
    assert header.split() == ["run", "seed", "state", "epoch", "top-1", "%", "left"]
    assert [line.split()[:2] for line in lines[:2]] == [["deit_s12", "0"], ["1", "waiting"]]


def test_seeds_and_attempts_take_room_only_where_there_are_several(make_run: MakeRun) -> None:
    run = make_run("deit_s12", "recipe.epochs=4")
    start(run)
    epoch(run, 1, 61.0)
    header = drawn([run], width=80, height=20).splitlines()[0].split()
    assert header == ["run", "state", "epoch", "top-1", "%", "left", "loss", "images/s"]
    start(run, attempt=2, step=run.experiment.steps_per_epoch)
    assert "attempt" in drawn([run], width=80, height=20).splitlines()[0]


@pytest.mark.parametrize("width", [30, 40])
def test_on_a_very_narrow_terminal_a_long_name_is_cut_before_the_state_is(
    width: int, make_run: MakeRun
) -> None:
    run = make_run("deit_s12_distilled_featscale")
    start(run)
    text = drawn([run], width=width, height=20)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert "running" in text


@pytest.mark.parametrize("no_color", ["", "1"])
def test_colours_are_left_out_where_nobody_wants_them(
    no_color: str, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "NO_COLOR": no_color,
        "TERM": "xterm-256color",
        "FORCE_COLOR": "1",
        "COLUMNS": "100",
    }.items():
        monkeypatch.setenv(name, value)
    run, stream = make_run("deit_s12", "recipe.epochs=4"), io.StringIO()
    start(run)
    epoch(run, 1, 61.0)
    with view.LiveView([run], stream):
        pass
    assert bool(re.search(r"\x1b\[[\d;]*38;", stream.getvalue())) is not bool(no_color)
