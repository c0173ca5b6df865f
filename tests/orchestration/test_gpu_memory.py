"""Memory of GPUs: how many samples a pass are chosen for it, and what is refused before a job."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from antioversmooth import runs
from antioversmooth.config import Experiment
from antioversmooth.errors import SpecError
from antioversmooth.orchestration import devices, preflight
from antioversmooth.orchestration.slurm.backend import SlurmBackend
from antioversmooth.runs import Run, memory

MakeRun = Callable[..., Run]
SLURM = SlurmBackend()


@pytest.fixture
def make(make_run: MakeRun) -> Callable[..., Experiment]:
    """Makes full-size rows, for 8 GPUs."""
    return lambda name, *more: make_run(name, *more, profile="imagenet").experiment


@pytest.mark.parametrize("gpu_mem_gb", ["0", "-1", "80GB", ".nan", ".inf", "true", "[80]"])
def test_a_memory_that_is_none_is_refused(gpu_mem_gb: str, make: Callable[..., Experiment]) -> None:
    with pytest.raises(SpecError, match=r"cluster\.gpu_mem_gb"):
        make("deit_s12", f"cluster.gpu_mem_gb={gpu_mem_gb}")


def test_a_stated_memory_is_no_part_of_a_run(make_run: MakeRun) -> None:
    assert make_run("deit_s12", "cluster.gpu_mem_gb=16").id == make_run("deit_s12").id


@pytest.mark.parametrize("name", ["deit_s12", "deit_s24_attnscale", "cait_s24_featscale", "swin_s"])
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_the_most_samples_are_chosen_that_divide_and_fit(
    name: str, world_size: int, make: Callable[..., Experiment]
) -> None:
    chosen = []
    for gpu_mem_gb in (4, 8, 16, 24, 40, 80, 500):
        config = make(name, f"cluster.gpu_mem_gb={gpu_mem_gb}")
        size, passes = runs.deal(config, world_size)
        of_rank = config.recipe.global_batch // world_size
        assert size * passes == of_rank
        group = config.inseparable
        possible = [n for n in range(group, of_rank + 1, group) if of_rank % n == 0]
        fitting = [n for n in possible if memory.fits(config, n, of_rank // n, world_size)]
        assert size == max(fitting, default=group)
        chosen.append(size)
    assert all(a <= b for a, b in itertools.pairwise(chosen))
    assert chosen[0] < chosen[-1] == of_rank


def test_a_batch_that_does_not_divide_is_refused_as_ever(make: Callable[..., Experiment]) -> None:
    with pytest.raises(SpecError, match="does not divide over 3 processes in groups of 32"):
        runs.deal(make("deit_s12", "cluster.gpu_mem_gb=16"), 3)


def test_a_stated_number_of_samples_stays(make: Callable[..., Experiment]) -> None:
    given = ("cluster.gpu_mem_gb=500", "runtime.device_batch=32")
    assert runs.deal(make("deit_s12", *given), 1) == (32, 32)


def test_no_memory_counts_without_gpus(make: Callable[..., Experiment]) -> None:
    config = make("deit_s12", "cluster.gpu_mem_gb=4", "cluster.gpus_per_node=0")
    placed = devices.place(config, [])
    assert (placed.device_batch, placed.peak_bytes) == (1024, None)
    preflight.check_gpu_memory(config, placed)


UNKNOWN = {
    "recipe.teacher": (
        "cait_s24_featscale",
        "recipe.distillation=hard recipe.teacher=timm:regnety_160",
    ),
    "recipe.optimizer": ("deit_s12", "recipe.optimizer=lamb"),
    "recipe.attention_dropout": ("deit_s12", "recipe.attention_dropout=0.1"),
    "runtime.compile": ("swin_s", "runtime.compile=inductor"),
    "model.method_options.count": ("deit_s12_registers", "model.method_options.count=16"),
    "recipe.precision": (
        "cait_s24_featscale",
        "recipe.precision=float32 runtime.gradient_checkpointing=true",
    ),
    "recipe.epochs": ("cait_s24", ""),
}


@pytest.mark.parametrize("key", UNKNOWN)
def test_unknown_memory_is_reported_and_neither_chosen_by_nor_refused(
    key: str, make: Callable[..., Experiment]
) -> None:
    name, overrides = UNKNOWN[key]
    config = make(name, "cluster.gpu_mem_gb=2", *overrides.split())
    assert memory.unknown_because(config) == key
    placed = SLURM.placement(config)
    assert (placed.peak_bytes, placed.accumulation) == (None, 1)
    preflight.check_gpu_memory(config, placed)


def test_a_method_that_nobody_traced_is_not_known(
    make: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "COEFFICIENTS", {})
    assert memory.unknown_because(make("deit_s12")) == "model.method"


def test_rows_with_options_of_their_own_are_known(make: Callable[..., Experiment]) -> None:
    for name in ("cait_s24_attnscale", "deit_s24_layerscale", "swin_s_featscale"):
        assert memory.unknown_because(make(name)) is None


REFUSED = {
    # nothing of the model fits
    "cluster.gpu_mem_gb=1": r"with micro-batches of 32 samples, the fewest that stay together,"
    r" needs \S+ GiB"
    r" .* tensors may take 0 GiB",
    "cluster.gpu_mem_gb=8 runtime.device_batch=128": r"device_batch = 128: a step with"
    r" micro-batches of 128 samples",
}


@pytest.mark.parametrize("overrides", REFUSED)
def test_a_step_that_does_not_fit_is_refused_with_what_fits(
    overrides: str, make: Callable[..., Experiment]
) -> None:
    config = make("deit_s24", "cluster.gpus_per_node=4", *overrides.split())
    with pytest.raises(SpecError, match=REFUSED[overrides]) as refused:
        preflight.check_gpu_memory(config, SLURM.placement(config))
    message = str(refused.value)
    found = re.search(r"GPUs of (\d+) GiB or more", message)
    assert found is not None
    larger = replace(config, cluster=replace(config.cluster, gpu_mem_gb=float(found[1])))
    for changed in (larger, *proposed(config, message)):
        preflight.check_gpu_memory(changed, SLURM.placement(changed))


def proposed(config: Experiment, message: str) -> Iterator[Experiment]:
    """The experiment with each change of `runtime` that a message names."""
    for words in re.findall(r"((?:runtime\.\S+ )+)\(takes", message):
        size = re.search(r"device_batch=(\d+)", words)
        yield replace(
            config,
            runtime=replace(
                config.runtime,
                device_batch=int(size[1]) if size else 0,
                gradient_checkpointing="gradient_checkpointing=true" in words,
            ),
        )


def test_smaller_passes_and_checkpointing_are_named(make: Callable[..., Experiment]) -> None:
    config = make("deit_s24", "cluster.gpu_mem_gb=7", "runtime.device_batch=64")
    with pytest.raises(SpecError) as refused:
        preflight.check_gpu_memory(config, SLURM.placement(config))
    assert len(list(proposed(config, str(refused.value)))) == 2
    # one group is too much without checkpointing
    config = make("deit_s24", "cluster.gpu_mem_gb=4.5")
    with pytest.raises(SpecError) as refused:
        preflight.check_gpu_memory(config, SLURM.placement(config))
    assert [c.runtime.gradient_checkpointing for c in proposed(config, str(refused.value))] == [
        True
    ]
