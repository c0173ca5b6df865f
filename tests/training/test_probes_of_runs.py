"""Probes of a run's data and model, and the whole inspection by several ranks."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from probing import contexts, read, start

from antioversmooth.errors import DataError
from antioversmooth.finding import Finding, Level, Place
from antioversmooth.runs import Run
from antioversmooth.training.data.sampling import MicroBatches
from antioversmooth.training.probes import catalogue, inputs, loading, network, steps
from antioversmooth.training.probes.context import Context, ok
from antioversmooth.training.probes.guarded import run_probe
from antioversmooth.training.probes.inspection import trained
from antioversmooth.training.probes.request import (
    TRAINING_SPEED,
    WAITING,
    ProbeRequest,
    Speed,
)
from antioversmooth.training.run.distributed import Ranks
from antioversmooth.training.step.learner import Learner

QUICK = ProbeRequest(processes_per_node=1, limit_s=60, measure_s=0)


@pytest.fixture
def about(tmp_path: Path) -> Callable[[Run], Context]:
    """Gives a rank that is alone and connected, about to probe a run."""

    def make(run: Run) -> Context:
        rank = replace(contexts([tmp_path], QUICK, runs=(run,))[0], run=run)
        device = torch.device("cpu")
        rank.established.ranks = Ranks(rank.info, device, None)
        return rank

    return make


def test_data_is_opened_and_counted(
    about: Callable[[Run], Context], folder_run: Callable[..., Run]
) -> None:
    rank = about(folder_run())
    (finding,) = loading.look_at_data(rank)
    assert (finding.place, finding.level) == (Place.data, Level.ok)
    assert finding.values["num_train"] == 24
    assert rank.established.dataset is not None


def test_data_that_differs_from_the_spec_is_an_error_that_says_so(
    about: Callable[[Run], Context], folder_run: Callable[..., Run]
) -> None:
    with pytest.raises(DataError, match="25"):
        list(loading.look_at_data(about(folder_run("data.num_train=25"))))


def test_views_are_counted_by_core_and_damaged_images_are_named(
    about: Callable[[Run], Context], folder_run: Callable[..., Run], tmp_path: Path
) -> None:
    rank = about(folder_run("recipe.repeated_augmentation=1"))
    list(loading.look_at_data(rank))
    (fine,) = loading.look_at_decoding(rank)
    assert fine.level is Level.ok
    assert loading.NOT_COMPARED not in fine.text
    assert fine.values["views_per_s_per_core"] == pytest.approx(
        rank.established.views_per_s, abs=0.01
    )
    for path in (tmp_path / "images" / "train").rglob("*.png"):
        path.write_bytes(b"no image")
    # the neighbours of a damaged image stand in for it: one must be whole
    damaged = sorted((tmp_path / "images" / "train" / "ash").iterdir())
    damaged[0].write_bytes((tmp_path / "images" / "val" / "ash" / damaged[0].name).read_bytes())
    names, _ = loading.look_at_decoding(rank)
    assert names.level is Level.warning
    assert str(tmp_path) in names.text


def test_the_speed_of_a_run_is_that_of_its_steps_and_its_loading(
    about: Callable[[Run], Context], tiny_run: Callable[..., Run]
) -> None:
    run = tiny_run("runtime.device_batch=32")
    rank = about(run)
    list(loading.look_at_data(rank))
    (decoding,) = loading.look_at_decoding(rank)
    assert decoding.text.endswith(f"(in memory){loading.NOT_COMPARED}")
    (finding,) = steps.look(rank)
    values = finding.values
    speed = Speed(**{one.name: values[one.name] for one in fields(Speed)})
    assert finding.check == TRAINING_SPEED
    assert (speed.run, speed.processes, speed.device_batch) == (str(run.dir), 1, 32)
    assert values["step_images_per_s"] == pytest.approx(128 / values["step_s"], rel=1e-3)
    assert 0 < speed.images_per_s < values["step_images_per_s"]
    assert speed.host_memory_gb > 0
    assert not list(run.checkpoints_dir.iterdir())
    assert not run.attempts()


@pytest.mark.parametrize(("limit_s", "taken"), [(60.0, 5), (0.0, 1)])
def test_a_slow_cpu_takes_one_step(
    about: Callable[[Run], Context],
    tiny_run: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
    limit_s: float,
    taken: int,
) -> None:
    rank = about(tiny_run("runtime.device_batch=32"))
    rank = replace(rank, request=replace(rank.request, limit_s=limit_s))
    numbers: list[int] = []
    monkeypatch.setattr(Learner, "train_step", lambda self, step, batches: numbers.append(step))
    (finding,) = steps.look(rank)
    assert finding.check == TRAINING_SPEED
    assert numbers == [*range(taken)]


def test_a_step_that_takes_too_long_is_slow_on_a_cpu_and_hangs_elsewhere(
    about: Callable[[Run], Context], tiny_run: Callable[..., Run]
) -> None:
    released = threading.Event()

    def step(_: Context) -> Iterator[Finding]:
        released.wait()
        yield ok("name", "too late")

    rank = about(tiny_run())
    probe = replace(catalogue.STEPS, look=step, limit_s=lambda _: 0.1)
    slow: list[Finding] = []
    hung: list[Finding] = []
    assert not run_probe(probe, "first", rank, slow.append)
    assert rank.established.ranks is not None
    rank.established.ranks = replace(rank.established.ranks, device=torch.device("meta"))
    assert not run_probe(probe, "second", rank, hung.append)
    released.set()
    assert [finding.level for finding in (*slow, *hung)] == [Level.warning, Level.wrong]
    assert slow[0].text == "one step takes longer than 0.1 s on this CPU"
    assert "a run would hang here" in hung[0].advice


def test_steps_of_a_student_need_no_trained_teacher(
    about: Callable[[Run], Context], tiny_run: Callable[..., Run]
) -> None:
    run = tiny_run("recipe.teacher=run:deit_s24", "recipe.distillation=hard")
    assert run.teacher is not None
    run.teacher.prepare()
    rank = about(run)
    list(loading.look_at_data(rank))
    remark, speed = steps.look(rank)
    assert remark.level is Level.warning
    assert "random weights" in remark.text
    assert speed.values["images_per_s"] > 0


@pytest.mark.parametrize(
    ("error", "overrides", "advice"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), (), "runtime.device_batch=64"),
        (RuntimeError("[enforce fail] can't allocate memory"), (), "runtime.device_batch=64"),
        (RuntimeError("CUDA out of memory: alloc"), ("runtime.device_batch=16",), "checkpointing"),
    ],
)
def test_steps_that_need_too_much_memory_name_the_next_smaller_pass(
    about: Callable[[Run], Context],
    tiny_run: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
    error: RuntimeError,
    overrides: tuple[str, ...],
    advice: str,
) -> None:
    """16 samples are mixed together, and stay together."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Learner, "train_step", fail)
    (finding,) = steps.look(about(tiny_run(*overrides)))
    assert finding.level is Level.wrong
    assert str(error).partition(".")[0] in finding.text
    assert finding.advice.startswith(("take fewer", "runtime.gradient_checkpointing"))
    assert advice in finding.advice


@pytest.mark.parametrize(
    ("stepped", "views", "workers", "expected"),
    [
        (1000.0, None, 7, 1000.0),
        (1000.0, 200.0, 7, 1000.0),
        (1000.0, 100.0, 7, 700.0),
        # 1 ms a step's image and 1 ms a view, one after the other
        (1000.0, 1000.0, 0, 500.0),
    ],
)
def test_loading_limits_the_speed_of_steps(
    stepped: float, views: float | None, workers: int, expected: float
) -> None:
    assert steps.together(stepped, views, workers) == pytest.approx(expected)


def test_a_bottleneck_of_loading_says_how_many_cpus_a_device_needs(
    about: Callable[[Run], Context], folder_run: Callable[..., Run]
) -> None:
    run = folder_run("runtime.workers=2")
    ranks = about(run).established.ranks
    assert ranks is not None
    batches = MicroBatches.of(run.experiment, seed=0, rank=0, world_size=1)
    finding = steps.describe(run, ranks, batches, 8 / 1000, (0, 2**30), 70.0)
    assert finding.level is Level.warning
    assert finding.values["images_per_s"] == 2 * 70
    assert f"{math.ceil(1000 / 70) + 1} CPUs" in finding.advice
    assert steps.describe(run, ranks, batches, 8 / 100, (0, 2**30), 70.0).level is Level.ok


def test_ways_of_input_are_measured_and_the_first_that_is_fast_enough_is_named(
    about: Callable[[Run], Context], folder_run: Callable[..., Run]
) -> None:
    rank = about(folder_run("runtime.device_batch=8"))
    list(loading.look_at_data(rank))
    list(loading.look_at_decoding(rank))
    assert rank.established.rates.keys() == inputs.SETTINGS.keys()
    assert min(rank.established.rates.values()) > 0
    speed, ways, choice = steps.look(rank)
    assert (speed.check, ways.check) == (TRAINING_SPEED, "ways of input")
    assert choice.level is Level.ok


@pytest.mark.parametrize(
    ("images_per_s", "expected"),
    [
        (100.0, "exact policy (recipe.policy=exact) on the 8 cores that load: no other is needed"),
        (450.0, "fast policy (recipe.policy=fast) on the 8"),
        (800.0, "decoded cache (data.cache=256) on the 8 cores that load: those before it are too"),
        (1600.0, "decoded cache, fast policy (data.cache=256 recipe.policy=fast) on the 8 cores"),
        (1700.0, "comes nearest, with 3,200 of 3,400 images/s"),
    ],
)
def test_the_input_that_pays_follows_from_rates_devices_and_cores(
    images_per_s: float, expected: str
) -> None:
    """Two devices with four loading processes each; the slower rank counts."""
    slow = dict(zip(inputs.SETTINGS, (100.0, 120.0, 200.0, 400.0), strict=True))
    measured = [slow, {way: 2 * rate for way, rate in slow.items()}]
    ways, choice = inputs.describe(measured, images_per_s=images_per_s, devices=2, workers=4)
    assert expected in choice.text
    cores = 2 * images_per_s / 100
    assert f"2 x {images_per_s:,.0f} images/s: exact policy 100, {cores:.1f} cores" in ways.text


def test_data_is_probed_once_for_runs_that_read_it_alike(make_run: Callable[..., Run]) -> None:
    rows = ("deit_s12", "deit_s12_attnscale", "deit_s12_featscale")
    planned = [make_run(name) for name in rows]
    other = make_run("deit_s12", "recipe.hflip=0.1")
    evaluating = make_run(
        "deit_s12",
        "recipe.epochs=0",
        "recipe.warmup_epochs=0",
        "recipe.init_from=timm:vit_tiny_patch16_224",
    )
    asked = [*planned, other, evaluating]
    found = list(trained(asked))
    assert [run.id for run, _ in found] == [run.id for run in (*planned, other)]
    names = [[probe.name for probe in probes] for _, probes in found]
    assert names == [["data", "decoding"], [], [], ["decoding"]]


def finish(processes: list[Any]) -> list[int | None]:
    """Exit codes of ranks, each of which gets its signal as soon as it waits for it."""
    for process in processes:
        process.join(timeout=120)
    return [process.exitcode for process in processes]


def test_two_ranks_find_that_all_is_well(tmp_path: Path, tiny_run: Callable[..., Run]) -> None:
    run = tiny_run()
    request = replace(QUICK, processes_per_node=2, runs=[str(run.dir)], signal_wait_s=60)
    request.write(tmp_path)
    processes = start([tmp_path, tmp_path])
    waiting = [tmp_path / WAITING.format(rank) for rank in range(2)]
    deadline = time.monotonic() + 100
    while not all(path.exists() for path in waiting) and time.monotonic() < deadline:
        time.sleep(0.02)
    for process in processes:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGUSR2)
    assert finish(processes) == [0, 0]
    first, second = (read(tmp_path, rank) for rank in range(2))
    # a busy machine may be slow, which is a warning
    everything = [finding for found in (first, second) for of in found.values() for finding in of]
    assert not [finding for finding in everything if finding.level is Level.wrong]
    assert first.keys() - second.keys() == {
        "flock",
        "exclusive creation",
        "appending",
        "checkpoint",
        "all-reduce",
        "data",
        TRAINING_SPEED,
    }
    reduced = first["all-reduce"][0].values
    assert reduced["backend"] == "gloo"
    assert reduced["bytes"] == list(network.SIZES)
    assert all(speed >= 0 for speed in reduced["gb_per_s"])
    assert first[TRAINING_SPEED][0].values["processes"] == 2
    assert second["signal"][0].values["reason"] in ("timeout", "preempted")


def test_faults_of_one_node_do_not_hide_what_the_others_find(
    tmp_path: Path, tiny_run: Callable[..., Run]
) -> None:
    """The second rank does not see the folder, and no rank has the interface."""
    shared = tmp_path / "shared"
    shared.mkdir()
    replace(QUICK, processes_per_node=2, limit_s=5, runs=[str(tiny_run().dir)]).write(shared)
    processes = start([shared, tmp_path / "hidden"], GLOO_SOCKET_IFNAME="ib7")
    assert finish(processes) == [0, 0]
    found = read(shared, 0)
    (blind,) = found["shared folder"]
    assert blind.level is Level.wrong
    assert f"does not see {shared}" in blind.text
    assert "ib7" in found["interfaces"][0].text
    assert found["data"][0].level is Level.ok
    assert "does not see" in found["ranks"][0].text
    assert not (shared / "rank1.jsonl").exists()
