"""Training steps on a GPU; rehearsed on the CPU where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch
from processes import tiny

from antioversmooth.config import Compiler
from antioversmooth.runs import Run
from antioversmooth.training.data.loading import OK, Batch
from antioversmooth.training.data.sampling import MicroBatches
from antioversmooth.training.run import system
from antioversmooth.training.run.distributed import RankInfo, Ranks
from antioversmooth.training.step.learner import Learner
from antioversmooth.training.weights.initial import new_model

pytestmark = pytest.mark.gpu
GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda", 0) if GPU else torch.device("cpu")
CPU = torch.device("cpu")
ROWS = {
    "deit_s12_attnscale": (),
    "deit_s12_featscale": (),
    "cait_s24_scratch_attnscale": ("model.class_depth=1",),
    "swin_s_attnscale": (
        "model.depth=4",
        "model.stage_depths=[2,2]",
        "model.patch_size=1",
        "model.window_size=2",
    ),
}
BATCH = 128
STEPS = 3
# float32 sums of another order, and exponentials of another library
BETWEEN_DEVICES = 1e-3


@pytest.fixture(autouse=True)
def _full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions in float32, where cuDNN would take TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture
def losses(make_run: Callable[..., Run]) -> Callable[..., list[float]]:
    """Losses of the first steps of a row's tiny model, its batches made of so many passes."""

    def train(
        row: str, *overrides: str, device: torch.device = DEVICE, passes: int = 1
    ) -> list[float]:
        given = tiny(*ROWS[row], f"runtime.device_batch={BATCH // passes}", *overrides)
        learner = learner_of(make_run(row, *given), device)
        taken = []
        for step in range(STEPS):
            batches = iter(parts_of(step, passes))
            # the first step makes room for what later ones need
            with never_waits() if step and device.type == "cuda" else nullcontext():
                taken.append(learner.train_step(step, batches).loss)
        return torch.stack(taken).tolist()

    return train


def learner_of(run: Run, device: torch.device) -> Learner:
    config = run.experiment
    return Learner(
        new_model(config, seed=0).to(device),
        config.recipe,
        config.data,
        MicroBatches.of(config, seed=0, rank=0, world_size=1),
        Ranks(RankInfo(0, 1, 0, 1, "alone"), device, None),
        teacher=None,
        compiler=Compiler.none,
        seed=0,
    )


def parts_of(step: int, passes: int) -> Iterator[Batch]:
    """A batch of noise, in so many parts."""
    generator = torch.Generator().manual_seed(step)
    images = torch.randint(0, 256, (BATCH, 1, 8, 8), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (BATCH,), generator=generator)
    if GPU:
        images, labels = images.pin_memory(), labels.pin_memory()
    for part, names in zip(images.chunk(passes), labels.chunk(passes), strict=True):
        yield Batch(part, names, torch.full((len(part),), OK))


@contextmanager
def never_waits() -> Iterator[None]:
    """Raises an error where the host waits for the device."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("row", ROWS)
def test_steps_of_the_gpu_are_those_of_the_cpu(
    row: str, losses: Callable[..., list[float]]
) -> None:
    """But for dropout and the content of erased rectangles, which each device draws for itself."""
    plain = ("recipe.precision=float32", "recipe.dropout=0.0", "recipe.random_erasing=0.0")
    ours, theirs = losses(row, *plain), losses(row, *plain, device=CPU)
    assert ours == pytest.approx(theirs, rel=BETWEEN_DEVICES)


@pytest.mark.parametrize("row", ROWS)
def test_micro_batches_change_nothing_on_a_gpu(
    row: str, losses: Callable[..., list[float]]
) -> None:
    """With dropout, drop path, erasing and mixing on."""
    whole, halves = (losses(row, "recipe.precision=float32", passes=n) for n in (1, 2))
    assert halves == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_trains_as_float32_does(
    precision: str, losses: Callable[..., list[float]]
) -> None:
    """Losses are not far away, and no step is left out for an infinite gradient."""
    row = "deit_s12_featscale"
    half, full = (losses(row, f"recipe.precision={p}") for p in (precision, "float32"))
    assert half == pytest.approx(full, rel=2e-2)


@pytest.mark.skipif(not GPU, reason="needs a CUDA device")
def test_each_gpu_of_the_process_is_measured() -> None:
    found = system.sample_system(gpus=torch.cuda.device_count())
    assert 0 <= found["system/gpu_0_utilization_percentage"] <= 100
    assert found["system/gpu_0_memory_usage_megabytes"] > 0
