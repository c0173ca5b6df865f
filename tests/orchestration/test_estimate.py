from __future__ import annotations

from collections.abc import Callable

import pytest
from completed import finish

from antioversmooth.orchestration.estimate import Estimate, Estimator
from antioversmooth.runs import Run, RunRecord, journal
from antioversmooth.runs.arithmetic import multiply_adds

MakeRun = Callable[..., Run]


def estimate(run: Run, *, on_gpu: bool) -> Estimate:
    record = RunRecord.read(run)
    return Estimator([record]).estimate(record, on_gpu=on_gpu)


def test_nothing_measured_is_arithmetic_on_a_gpu_and_unknown_on_a_cpu(make_run: MakeRun) -> None:
    run = make_run("deit_s12", profile="imagenet")
    flops = 3 * 2 * multiply_adds(run.experiment.model) * 1281167 // 1024 * 1024 * 500
    on_gpu = estimate(run, on_gpu=True)
    assert on_gpu.device_hours == pytest.approx(flops / (0.35 * 312e12) / 3600, rel=0.01)
    assert "A100" in on_gpu.source
    assert estimate(run, on_gpu=False).device_hours is None


def test_a_teacher_of_ours_costs_its_forward_pass(make_run: MakeRun) -> None:
    alone = estimate(make_run("deit_s12", "recipe.epochs=300", profile="imagenet"), on_gpu=True)
    taught = estimate(
        make_run("deit_s12_distilled", "recipe.teacher='run:deit_b12'", profile="imagenet"),
        on_gpu=True,
    )
    assert alone.device_hours is not None
    assert taught.device_hours == pytest.approx(
        alone.device_hours * (1 + 17.5 / (3 * 4.6)), rel=0.05
    )
    published = estimate(make_run("deit_s12_distilled", profile="imagenet"), on_gpu=True)
    assert published.device_hours == pytest.approx(alone.device_hours)
    assert "without the teacher" in published.source


def test_the_runs_own_journal_replaces_arithmetic(make_run: MakeRun) -> None:
    run = make_run("deit_s12", "recipe.epochs=2")
    journal.append(run.attempts_path, {"attempt": 1, "event": "start", "step": 0, "world_size": 2})
    for speed in (100.0, 200.0, 900.0):
        journal.append(
            run.metrics_path, {"attempt": 1, "step": 1, "throughput/images_per_s": speed}
        )
    images = run.experiment.total_steps * run.experiment.recipe.global_batch
    assert estimate(run, on_gpu=False).device_hours == pytest.approx(images / (200.0 / 2) / 3600)


def test_another_seed_of_the_row_is_a_measurement_too(make_run: MakeRun) -> None:
    measured, planned = make_run("deit_s12", seed=0), make_run("deit_s12", seed=1)
    finish(measured, images_per_s=80.0, world_size=4)
    images = planned.experiment.total_steps * planned.experiment.recipe.global_batch
    assert estimate(planned, on_gpu=True).device_hours == pytest.approx(images / 20.0 / 3600)


def test_runs_of_another_model_measure_nothing_for_this_one(make_run: MakeRun) -> None:
    shallow, planned = make_run("deit_s12", "model.depth=2"), make_run("deit_s12", seed=1)
    finish(shallow, images_per_s=8000.0)
    assert estimate(planned, on_gpu=False).device_hours is None


def test_steps_tried_on_a_cpu_say_nothing_about_a_gpu(make_run: MakeRun) -> None:
    run = make_run("deit_s12", profile="imagenet")
    start = {"attempt": 1, "event": "start", "step": 0, "world_size": 1, "device_type": "cpu"}
    journal.append(run.attempts_path, start)
    journal.append(run.metrics_path, {"attempt": 1, "step": 1, "throughput/images_per_s": 3.0})
    assert "A100" in estimate(run, on_gpu=True).source
    assert estimate(run, on_gpu=False).source == "measured"


def test_a_run_that_trains_nothing_needs_no_estimate(make_run: MakeRun) -> None:
    assert estimate(make_run("cait_s24", profile="imagenet"), on_gpu=True).device_hours is None
