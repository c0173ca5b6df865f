from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import completed
import pytest

from antioversmooth import files
from antioversmooth.config import Experiment
from antioversmooth.errors import ResultError
from antioversmooth.runs import Run, RunRecord, RunState, journal
from antioversmooth.runs.agreement import journal_problems
from antioversmooth.runs.attempts import CORRUPT_IMAGE, parse_attempts
from antioversmooth.runs.metrics import IMAGES_PER_SECOND, START_TOP1, TRAIN_LOSS, VAL_TOP1
from antioversmooth.runs.result import outcome

MakeRun = Callable[..., Run]


@pytest.fixture
def three_epochs(make_run: MakeRun) -> Experiment:
    """A run of three epochs, each of ten steps."""
    words = ("data.num_train=80", "recipe.global_batch=8", "recipe.mix_group=4", "recipe.epochs=3")
    return make_run("deit_s12", *words, "recipe.warmup_epochs=0").experiment


def evaluated(*epochs: tuple[int, int, float]) -> list[journal.Record]:
    return [{"step": step, "epoch": epoch, VAL_TOP1: top1} for step, epoch, top1 in epochs]


WHOLE = evaluated((10, 1, 80.0), (20, 2, 81.0), (30, 3, 79.0))


def test_the_best_epoch_is_the_first_of_the_highest_and_never_the_start(
    three_epochs: Experiment,
) -> None:
    records = evaluated((0, 0, 99.0), (10, 1, 70.0), (20, 2, 80.0), (30, 3, 80.0))
    assert outcome(records, three_epochs)["best"] == {VAL_TOP1: 80.0, "epoch": 2}


def test_the_best_epoch_is_unknown_where_the_evaluation_of_an_epoch_is_lost(
    three_epochs: Experiment,
) -> None:
    found = outcome([WHOLE[0], WHOLE[2]], three_epochs)
    assert found["best"] is None
    assert found["metrics"] == {VAL_TOP1: 79.0}


def test_the_last_evaluation_is_the_number(three_epochs: Experiment) -> None:
    records = [*WHOLE, {"step": 30, TRAIN_LOSS: 0.1}]
    assert outcome(records, three_epochs)["metrics"] == {VAL_TOP1: 79.0}


def test_the_last_evaluation_is_that_of_the_highest_step_in_whatever_order(
    three_epochs: Experiment,
) -> None:
    assert outcome(WHOLE[::-1], three_epochs)["metrics"] == {VAL_TOP1: 79.0}


def test_an_evaluation_that_was_repeated_counts_once_and_as_the_last(
    three_epochs: Experiment,
) -> None:
    records = [*WHOLE, *evaluated((30, 3, 78.0))]
    assert outcome(records, three_epochs)["metrics"] == {VAL_TOP1: 78.0}


def test_the_start_and_the_throughput_are_in_the_journal(three_epochs: Experiment) -> None:
    speeds = [900.0, 1000.0, 1200.0, 100.0]
    fast = [{"step": step, IMAGES_PER_SECOND: speed} for step, speed in enumerate(speeds, start=1)]
    records = [{"step": 0, START_TOP1: 83.5}, *WHOLE, *fast]
    assert outcome(records, three_epochs)["start"] == {VAL_TOP1: 83.5}
    assert outcome(records, three_epochs)["images_per_s"] == statistics.median(speeds)
    assert outcome(WHOLE, three_epochs)["start"] is None


INCOMPLETE = {
    "no journal": [],
    "the last epoch": WHOLE[:2],
    "all but the first epoch": WHOLE[:1],
    "the accuracy of the last epoch": [*WHOLE[:2], {"step": 30, "epoch": 3, TRAIN_LOSS: 0.1}],
    "an accuracy that is a number": [*WHOLE[:2], {**WHOLE[2], VAL_TOP1: "79.0"}],
    "an accuracy that is finite": [*WHOLE[:2], {**WHOLE[2], VAL_TOP1: float("nan")}],
    "the step": [*WHOLE[:2], {"epoch": 3, VAL_TOP1: 79.0}],
    "the right number of steps": [*WHOLE[:2], {**WHOLE[2], "step": 29}],
    "the end at the last step": [*WHOLE, *evaluated((40, 4, 90.0))],
}
"""Journals of a run of three epochs, by what they lack."""


@pytest.mark.parametrize("records", INCOMPLETE.values(), ids=INCOMPLETE)
def test_there_is_no_outcome_without_an_evaluation_of_the_last_step(
    three_epochs: Experiment, records: list[journal.Record]
) -> None:
    with pytest.raises(ResultError, match=r"metrics\.jsonl"):
        outcome(records, three_epochs)


@pytest.mark.parametrize("epochs", [2, 0])
@pytest.mark.parametrize("journal_holds", ["nothing", "all but the last evaluation", "no file"])
def test_a_result_without_the_evaluation_of_the_last_step_in_its_journal_is_invalid(
    make_run: MakeRun, epochs: int, journal_holds: str
) -> None:
    words = (f"recipe.epochs={epochs}", "recipe.warmup_epochs=0", "recipe.init_from=timm:some.tag")
    run = completed.finish(make_run("deit_s12", *words))
    assert RunRecord.read(run).status.state is RunState.done
    if journal_holds == "no file":
        run.metrics_path.unlink()
    else:
        run.metrics_path.write_text("")
    if journal_holds.startswith("all") and epochs:
        step = run.experiment.steps_per_epoch
        journal.append(run.metrics_path, evaluated((step, 1, 91.5))[0])
    status = RunRecord.read(run).status
    assert status.state is RunState.failed
    assert "launch again" in status.detail
    assert run.invalid_result_reason() == status.detail


@pytest.mark.parametrize("changes", [{"steps": 7}, {"epochs": 1}])
def test_a_result_of_another_length_than_its_run_is_invalid(
    make_run: MakeRun, changes: dict[str, int]
) -> None:
    run = completed.finish(make_run("deit_s12"), **changes)
    ((key, value),) = changes.items()
    assert f"{key} = {value}" in run.invalid_result_reason()


IMPOSSIBLE = [
    {"val/top1": 150}, {"val/top1": -3.0}, {"val/top1": 100.0001},
    {"val/top1": 50.0, "val/top5": -1.0}, {"val/top1": 50.0, "val/top5": 49.0},
    {"val/top1": 50.0, "ema/top1": 101.0, "ema/top5": 100.0},
    {"val/top1": 50.0, "ema/top1": 60.0, "ema/top5": 59.0},
    {"val/top1": 50.0, "val/loss": -7.0},
]  # fmt: skip


@pytest.mark.parametrize("metrics", IMPOSSIBLE, ids=str)
def test_a_result_with_a_number_that_cannot_be_measured_is_invalid(
    make_run: MakeRun, metrics: dict[str, float]
) -> None:
    """Although its journal has the same number."""
    run = make_run("deit_s12")
    last = {"step": run.experiment.total_steps, "epoch": run.experiment.recipe.epochs}
    run = completed.finish(run)
    journal.append(run.metrics_path, {**last, **metrics})
    result = json.loads((run.dir / "result.json").read_text())
    files.write_json(run.dir / "result.json", {**result, "metrics": metrics})
    status = RunRecord.read(run).status
    assert status.state is RunState.failed
    assert any(key in status.detail for key in metrics)
    with pytest.raises(ResultError):
        outcome([{**last, **metrics}], run.experiment)


@pytest.mark.parametrize(
    "changes",
    [
        {"images_per_s": -5.0},
        {"images_per_s": 0},
        {"device_hours": -0.1},
        {"gmacs": -1.0},
        {"parameters": -1},
        {"similarity": {"tokens": [42.0]}},
        {"similarity": {"tokens": [0.5], "off_diagonal": [-1.5]}},
    ],
    ids=str,
)
def test_a_result_with_an_impossible_speed_size_or_similarity_is_invalid(
    make_run: MakeRun, changes: dict[str, Any]
) -> None:
    run = completed.finish(make_run("deit_s12"))
    result = json.loads((run.dir / "result.json").read_text())
    files.write_json(run.dir / "result.json", {**result, **changes})
    ((key, _),) = changes.items()
    assert f"{key}" in RunRecord.read(run).status.detail


def test_an_accuracy_is_a_whole_number_of_the_images_that_could_be_read(make_run: MakeRun) -> None:
    run = make_run("deit_s12", "data.num_val=18")
    (start,) = parse_attempts([{"time": 0.0, "attempt": 1, "event": "start", "step": 0}])
    blind = replace(start, notes=({"event": CORRUPT_IMAGE, "file": "a.png"},))
    for attempt, images in ((start, {18}), (blind, {17, 18})):
        for n in (17, 18, 19):
            record = {"step": 0, "epoch": 0, VAL_TOP1: 100 * 5 / n}
            found = list(journal_problems(run.experiment, [attempt], [record]))
            assert bool(found) is (n not in images)


def test_a_result_whose_best_epoch_is_unknown_is_valid(make_run: MakeRun) -> None:
    run = completed.finish(make_run("deit_s12"))
    result = run.result()
    assert result is not None
    assert result["best"] is None
