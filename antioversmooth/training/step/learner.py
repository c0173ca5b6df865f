"""One optimizer step: a global batch through the model in blocks, its gradient, and what moves with
the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from timm.models.deit import VisionTransformerDistilled
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from antioversmooth.config import Compiler, DataConfig, Precision, RecipeConfig
from antioversmooth.training.data.augmentation import DevicePreprocessing
from antioversmooth.training.data.loading import Batch
from antioversmooth.training.data.mixing import Mixing
from antioversmooth.training.data.sampling import Blocks
from antioversmooth.training.evaluator import autocast
from antioversmooth.training.run.distributed import Ranks
from antioversmooth.training.step.distillation import Criterion, Teacher
from antioversmooth.training.step.dropout import Dropping
from antioversmooth.training.step.optimisation import Schedule, build_ema, build_optimizer


class Learner:
    """A model, and all that one step of its training changes.

    Nothing in a step waits for the device, and nothing is drawn by block or by rank.

    Args:
        model: With its first weights, on the device.
        blocks: Which part of each global batch this rank sees.
        teacher: Whom the model learns from, beside the labels.
        compiler: Of the forward and backward pass; `model`, and so its copies and checkpoints, stay
            as they are.
        seed: The run's.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: RecipeConfig,
        data: DataConfig,
        blocks: Blocks,
        ranks: Ranks,
        *,
        teacher: Teacher | None,
        compiler: Compiler,
        seed: int,
    ) -> None:
        if teacher is not None and isinstance(model, VisionTransformerDistilled):
            # gives the logits of both classifiers, not their mean
            model.set_distilled_training(True)
        self.teacher, self.criterion = teacher, Criterion(recipe)
        self.model, self.recipe, self.blocks, self.ranks = model, recipe, blocks, ranks
        self.ema = build_ema(model, recipe)
        self.optimizer = build_optimizer(model, recipe)
        self.schedule = Schedule(self.optimizer, recipe, blocks.order.steps_per_epoch)
        # Scaling keeps small gradients from vanishing in float16; it is the identity elsewhere.
        scales = recipe.precision is Precision.float16 and ranks.device.type == "cuda"
        self.scaler = torch.amp.GradScaler(ranks.device.type, enabled=scales)
        self.preprocessing = DevicePreprocessing(
            data, seed=seed, device=ranks.device, probability=recipe.random_erasing
        )
        self.mixing = Mixing(recipe, data.num_classes, seed=seed)
        self.dropping = Dropping(model, recipe, seed=seed)
        self._parallel = _parallel(model, ranks)
        self._forward = _compiled(self._parallel, compiler)

    def learn(self, step: int, batches: Iterator[Batch]) -> tuple[Tensor, Tensor | None]:
        """One step; takes this rank's blocks of it from `batches`.

        Returns:
            This rank's part of the mean loss over the global batch, and the norm of the whole
            gradient where the recipe clips it; both still on the device.
        """
        self.model.train()
        self.schedule.set(step)
        total = torch.zeros((), device=self.ranks.device)
        for index in range(self.blocks.passes):
            with self._gradients_stay(index < self.blocks.passes - 1):
                loss = self._loss(step, self.blocks.number(index), next(batches))
                # The ranks' gradients are averaged, so this makes their sum the gradient of the
                # global batch's mean.
                self.scaler.scale(loss / self.blocks.passes).backward()
            total += loss.detach()
        norm = self._update()
        return total / (self.blocks.passes * self.ranks.world_size), norm

    def _loss(self, step: int, block: int, batch: Batch) -> Tensor:
        first = block * self.blocks.size
        first_view = step * self.recipe.global_batch + first
        images = self.preprocessing.training(
            batch.images, range(first_view, first_view + self.blocks.size)
        )
        labels = batch.labels.to(self.ranks.device, non_blocking=True)
        images, targets = self.mixing(images, labels, first_view)
        with autocast(self.ranks.device, self.recipe.precision):
            taught = None if self.teacher is None else self.teacher(images)
            self.dropping.at(step, first, self.blocks.size)
            outputs = self._forward(images)
        return self.criterion(outputs, targets, taught)

    def _update(self) -> Tensor | None:
        norm = None
        if self.recipe.clip_grad is not None:
            self.scaler.unscale_(self.optimizer)
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update(self.model)
        return norm

    def _gradients_stay(self, on_this_rank: bool) -> AbstractContextManager[None]:
        """While accumulating, gradients are exchanged with the last block only."""
        if on_this_rank and isinstance(self._parallel, DistributedDataParallel):
            return self._parallel.no_sync()
        return nullcontext()

    def has_finite_weights(self) -> bool:
        """Whether every parameter is a finite number; waits for the device."""
        return bool(
            torch.stack([parameter.isfinite().all() for parameter in self.model.parameters()]).all()
        )

    def state(self) -> dict[str, Any]:
        """What a later start needs; on the device."""
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.module.state_dict() if self.ema is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from a saved state."""
        self.model.load_state_dict(state["model"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])


def _parallel(model: nn.Module, ranks: Ranks) -> nn.Module:
    if ranks.world_size == 1:
        return model
    return DistributedDataParallel(
        model,
        device_ids=[ranks.device.index] if ranks.device.type == "cuda" else None,
        # one copy of the gradients less
        gradient_as_bucket_view=True,
        # these models have none that training changes
        forward_sync_buffers=False,
    )


def _compiled(model: nn.Module, compiler: Compiler) -> Callable[[Tensor], Any]:
    if compiler is Compiler.none:
        return model
    compiled: Callable[[Tensor], Any] = torch.compile(model, backend=compiler.value, dynamic=False)
    return compiled
