from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from antioversmooth.errors import SpecError
from antioversmooth.orchestration import devices
from antioversmooth.orchestration.slurm.backend import SlurmBackend
from antioversmooth.runs import Run

MakeRun = Callable[..., Run]


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with three GPUs."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(
        '#!/bin/sh\nfor i in 0 1 2; do echo "GPU $i: NVIDIA A100 (UUID: GPU-$i)"; done\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("nvidia_smi")
def test_the_driver_tells_which_gpus_there_are() -> None:
    assert devices.visible_gpus() == ["0", "1", "2"]


@pytest.mark.usefixtures("nvidia_smi")
@pytest.mark.parametrize(
    ("chosen", "visible"), [("1,2", ["1", "2"]), ("", []), ("-1", []), ("GPU-a", ["GPU-a"])]
)
def test_cuda_visible_devices_has_the_last_word(
    chosen: str, visible: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert devices.visible_gpus() == visible


@pytest.mark.parametrize(
    ("overrides", "gpus", "processes", "on_gpu"),
    [
        (["cluster.gpus_per_node=8"], 0, 1, False),
        (["cluster.gpus_per_node=8"], 4, 4, True),
        (["cluster.gpus_per_node=2"], 4, 2, True),
        (["cluster.gpus_per_node=2", "cluster.nodes=2"], 4, 4, True),
        # 64 samples do not divide over three
        (["cluster.gpus_per_node=8"], 3, 2, True),
        (["cluster.gpus_per_node=0", "cluster.tasks_per_node=2"], 4, 2, False),
    ],
)
def test_a_run_takes_what_is_asked_for_as_far_as_it_is_there(
    overrides: list[str], gpus: int, processes: int, on_gpu: bool, make_run: MakeRun
) -> None:
    overrides = [*overrides, "recipe.global_batch=64", "recipe.mix_group=16"]
    experiment = make_run("deit_s12", *overrides).experiment
    placed = devices.place(experiment, [str(index) for index in range(gpus)])
    assert (placed.processes, placed.on_gpu) == (processes, on_gpu)
    assert (
        placed.processes * placed.device_batch * placed.accumulation
        == experiment.recipe.global_batch
    )


def test_a_number_of_processes_that_was_asked_for_and_does_not_divide_is_refused(
    make_run: MakeRun,
) -> None:
    experiment = make_run(
        "deit_s12", "cluster.gpus_per_node=0", "cluster.tasks_per_node=3"
    ).experiment
    with pytest.raises(SpecError, match="does not divide over 3 processes"):
        devices.place(experiment, [])


def test_slurm_takes_the_specs_word_for_it(make_run: MakeRun) -> None:
    experiment = make_run("cait_s24_featscale", "cluster.nodes=2", profile="imagenet").experiment
    placed = SlurmBackend().placement(experiment)
    assert (placed.processes, placed.device_batch, placed.accumulation) == (16, 16, 1)
