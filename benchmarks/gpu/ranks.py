"""Whether one process and two, on the same card, take the same training steps.

NCCL refuses two ranks on a card, so gloo carries their gradients.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist

from antioversmooth import spec
from antioversmooth.config import Compiler, Experiment
from antioversmooth.training.data.loading import OK, Batch
from antioversmooth.training.data.sampling import MicroBatches
from antioversmooth.training.run.distributed import RankInfo, Ranks
from antioversmooth.training.step.learner import Learner
from antioversmooth.training.weights.initial import new_model
from benchmarks.gpu.machine import the_device
from benchmarks.gpu.parts import PRELOADED, Finding

ROW = "deit_s12_featscale"
WORLD_SIZES = (1, 2)
STEPS = 6
SMALL = (
    "data.num_classes=8",
    "recipe.global_batch=64",
    "recipe.mix_group=16",
    "recipe.dropout=0.1",
    # a float16 sum of another order differs by more than a mistake might
    "recipe.precision=float32",
    "recipe.clip_grad=1.0",
    # weights move from the first step on
    "recipe.warmup_epochs=0",
)
"""The whole recipe on; clipping needs the norm."""
FULL_WIDTH = ("model.image_size=64",)
TINY = ("model.image_size=32", "model.embed_dim=24", "model.num_heads=3", "model.depth=2")


def compare_ranks(root: Path) -> Iterator[Finding]:
    """Yields the largest relative difference of losses and of gradient norms over some steps, and
    the numbers themselves by world size."""
    small = [*SMALL, *(FULL_WIDTH if the_device().type == "cuda" else TINY)]
    row = spec.load_experiment(root / "experiments" / f"{ROW}.yaml", small)
    steps = {size: _steps(row, size) for size in WORLD_SIZES}
    yield "steps", {str(size): found for size, found in steps.items()}
    one, two = (torch.tensor(steps[size]) for size in WORLD_SIZES)
    loss, norm = ((one - two).abs() / one.abs()).amax(0).tolist()
    yield "loss", loss
    yield "gradient norm", norm


def _steps(row: Experiment, world_size: int) -> list[tuple[float, float]]:
    """Loss and norm of the gradient of each step."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory() as folder:
        arguments = [(row, rank, world_size, Path(folder)) for rank in range(world_size)]
        processes = [context.Process(target=_rank, args=given) for given in arguments]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        codes = [process.exitcode for process in processes]
        if any(codes):
            raise RuntimeError(f"of {world_size} ranks: exit codes {codes}")
        found = [torch.load(Path(folder) / f"rank{rank}.pt") for rank in range(world_size)]
    # each rank has its own part of the loss, and the norm of the whole gradient
    losses = torch.stack([losses for losses, _ in found]).sum(0)
    return list(zip(losses.tolist(), found[0][1].tolist(), strict=True))


def _rank(row: Experiment, rank: int, world_size: int, folder: Path) -> None:
    """Takes the steps as one rank of several."""
    device = the_device()
    torch.backends.cudnn.allow_tf32 = False
    torch.set_num_threads(1)
    launcher = "alone" if world_size == 1 else "torchrun"
    ranks = Ranks(RankInfo(rank, world_size, rank, world_size, launcher), device, None)
    if world_size > 1:
        meeting = f"file://{folder}/meet"
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world_size)
    micro = MicroBatches.of(row, seed=0, rank=rank, world_size=world_size)
    model = new_model(row, seed=0).to(device)
    learner = Learner(
        model,
        row.recipe,
        row.data,
        micro,
        ranks,
        teacher=None,
        compiler=Compiler.none,
        seed=0,
    )
    found = [learner.train_step(n, iter([_part(row, n, micro)])) for n in range(STEPS)]
    norms = [losses.grad_norm for losses in found if losses.grad_norm is not None]
    losses = torch.stack([losses.loss for losses in found])
    torch.save((losses.cpu(), torch.stack(norms).cpu()), folder / f"rank{rank}.pt")
    if world_size > 1:
        dist.destroy_process_group()


def _part(row: Experiment, step: int, micro: MicroBatches) -> Batch:
    """This rank's part of a step's batch of noise, as a loader delivers it."""
    recipe, data, side = row.recipe, row.data, row.model.image_size
    generator = torch.Generator().manual_seed(step)
    shape = (recipe.global_batch, data.in_channels, side, side)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, data.num_classes, shape[:1], generator=generator)
    mine = slice(micro.offset(0), micro.offset(0) + micro.size)
    return Batch(images[mine], labels[mine], torch.full((micro.size,), OK))
