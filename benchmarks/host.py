"""Host time of a training step: of Python and of torch's dispatcher, beside a plain step of timm's.

Tensors are so small that computing them costs next to nothing: what is left is the time in which a
GPU waits for its host, where a step is shorter on the device.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import count, repeat
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from antioversmooth import spec
from antioversmooth.config import Compiler, Experiment
from antioversmooth.runs import memory
from antioversmooth.training.data.loading import OK, Batch
from antioversmooth.training.data.sampling import MicroBatches, SampleOrder
from antioversmooth.training.run.distributed import RankInfo, Ranks
from antioversmooth.training.step.learner import Learner
from antioversmooth.training.weights.initial import new_model
from benchmarks.timing import Times, cpu_clock, interleaved

ROWS = ("deit_s24", "deit_s24_attnscale", "deit_s24_featscale")
"""DeiT-S with 24 layers: the model of the paper with most layers, and dropout in all of them."""
STOCK = "timm"
DDP = ", DDP"
IMAGES = 8
_TINY = (
    "model.image_size=16",
    "model.embed_dim=12",
    "data.num_classes=10",
    f"recipe.global_batch={IMAGES}",
    f"recipe.mix_group={IMAGES // 2}",
    "recipe.min_lr=0",
)
"""All layers and all of the recipe; two tokens of twelve channels."""
_CPU = torch.device("cpu")


def host_times(root: Path, *, rounds: int, overrides: tuple[str, ...] = ()) -> dict[str, Times]:
    """CPU seconds of a step in each round, by variant: alone, and wrapped by DDP.

    `timm`: forward and backward pass of timm's own model with the row's dropout and drop path, and
    fused AdamW. The others: a whole step of this project, which also normalises, erases, mixes and
    keeps the moving average.
    """
    rows = tiny_rows(root, overrides)
    alone = {name: OurStep(row, ranks=1) for name, row in rows.items()}
    found = {"": interleaved({STOCK: StockStep(rows[ROWS[0]]), **alone}, cpu_clock, rounds=rounds)}
    with group_of_one():
        wrapped = {name: OurStep(row, ranks=2) for name, row in rows.items()}
        stock = StockStep(rows[ROWS[0]], wrap=True)
        found[DDP] = interleaved({STOCK: stock, **wrapped}, cpu_clock, rounds=rounds)
    return found


def tiny_rows(root: Path, overrides: tuple[str, ...]) -> dict[str, Experiment]:
    """The rows with all their layers and tiny tensors, by name."""
    return {
        name: spec.load_experiment(root / "experiments" / f"{name}.yaml", [*_TINY, *overrides])
        for name in ROWS
    }


@contextmanager
def group_of_one() -> Iterator[None]:
    """A process group of this process alone: gradients are reduced, and nothing is sent."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=0, world_size=1)
        stack.callback(dist.destroy_process_group)
        yield


def noise(row: Experiment, device: torch.device) -> Batch:
    """A global batch of noise, as a loader delivers it for a device."""
    shape = (row.recipe.global_batch, row.data.in_channels, *2 * (row.model.image_size,))
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    labels = torch.randint(0, row.data.num_classes, shape[:1])
    if device.type == "cuda":
        images, labels = images.pin_memory(), labels.pin_memory()
    return Batch(images, labels, torch.full(shape[:1], OK))


class OurStep:
    """`Learner.train_step` of a row; the batch is there already, in the host's memory.

    Args:
        ranks: As the learner sees it; of two, it wraps the model, and takes half a batch.
    """

    def __init__(
        self,
        row: Experiment,
        *,
        ranks: int,
        compiler: Compiler = Compiler.none,
        device: torch.device = _CPU,
    ) -> None:
        number = row.recipe.global_batch
        self.batch, self.steps = noise(row, device), count()
        self.planned_bytes = memory.peak_bytes(row, number, 1, ranks)
        """Most memory of its tensors, as a plan says."""
        # half of a batch is one mixing group
        row = replace(row, recipe=replace(row.recipe, global_batch=number * ranks))
        self.learner = Learner(
            new_model(row, seed=0).to(device),
            row.recipe,
            row.data,
            MicroBatches(SampleOrder.of(row, seed=0), number, 1, 0, 0, 1),
            Ranks(RankInfo(0, ranks, 0, ranks, "torchrun" if ranks > 1 else "alone"), device, None),
            teacher=None,
            compiler=compiler,
            seed=0,
        )

    def __call__(self) -> Tensor:
        """One step; its loss, []."""
        return self.learner.train_step(next(self.steps), repeat(self.batch)).loss


class StockStep:
    """Forward and backward pass of timm's model, without the row's method, and fused AdamW.

    Args:
        wrap: Whether DistributedDataParallel is around the model.
    """

    def __init__(self, row: Experiment, *, wrap: bool = False) -> None:
        plain = replace(row.model, method="none", method_options={})
        model = new_model(replace(row, model=plain), seed=0).train()
        self.model: nn.Module = model
        if wrap:
            self.model = DistributedDataParallel(model, gradient_as_bucket_view=True)
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
        shape = (row.recipe.global_batch, row.data.in_channels, *2 * (row.model.image_size,))
        self.images = torch.randn(shape)
        self.labels = torch.zeros(len(self.images), dtype=torch.long)

    def __call__(self) -> None:
        """One step."""
        self.optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(self.model(self.images), self.labels).backward()
        self.optimizer.step()
