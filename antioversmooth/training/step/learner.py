"""One optimizer step: the micro-batches of a global batch, their gradient, and the update."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from timm.models.deit import VisionTransformerDistilled
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from antioversmooth.config import Compiler, DataConfig, Precision, RecipeConfig
from antioversmooth.methods.losses import PatchTargets
from antioversmooth.runs.machine import check_compiler
from antioversmooth.training.data.augmentation import DevicePreprocessing
from antioversmooth.training.data.loading import Batch
from antioversmooth.training.data.mixing import Mixing
from antioversmooth.training.data.sampling import MicroBatches
from antioversmooth.training.evaluator import autocast
from antioversmooth.training.run.distributed import Ranks
from antioversmooth.training.step.compilation import begin_step, compile_blocks
from antioversmooth.training.step.distillation import Criterion, Teacher
from antioversmooth.training.step.dropout import IndexedDropouts
from antioversmooth.training.step.optimisation import Schedule, build_ema, build_optimizer
from antioversmooth.training.step.statistics import RunningStatistics
from antioversmooth.training.step.terms import LossTerms


class StepLosses(NamedTuple):
    """Losses of a step and the norm of its gradient; on the device."""

    loss: Tensor
    """This rank's part of the mean loss over the global batch, with all terms; []."""
    grad_norm: Tensor | None
    """Norm of the whole gradient, if the recipe clips it; []."""
    terms: Tensor
    """This rank's part of each term of the loss, without its weight; [number of terms]."""


class Learner:
    """A model with its optimizer, schedule, moving average and loss.

    No step waits for the device, and no draw depends on the micro-batch or the rank.

    Args:
        model: With its initial weights, on the device.
        micro_batches: This rank's part of each global batch.
        teacher: None: the model learns from the labels only.
        compiler: Compiles the blocks' forward and backward pass; evaluation, the moving average and
            checkpoints stay as they are.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: RecipeConfig,
        data: DataConfig,
        micro_batches: MicroBatches,
        ranks: Ranks,
        *,
        teacher: Teacher | None,
        compiler: Compiler,
        seed: int,
    ) -> None:
        if teacher is not None and isinstance(model, VisionTransformerDistilled):
            # returns the logits of both classifiers, not their mean
            model.set_distilled_training(True)
        self.teacher, self.criterion, self.terms = teacher, Criterion(recipe), LossTerms(model)
        self.model, self.recipe, self.ranks = model, recipe, ranks
        self.micro_batches = micro_batches
        self.ema = build_ema(model, recipe)
        self.optimizer = build_optimizer(model, recipe)
        self.schedule = Schedule(self.optimizer, recipe, micro_batches.order.steps_per_epoch)
        # Scaling keeps small gradients from vanishing in float16; otherwise it is the identity.
        scales = recipe.precision is Precision.float16 and ranks.device.type == "cuda"
        self.scaler = torch.amp.GradScaler(ranks.device.type, enabled=scales)
        self.preprocessing = DevicePreprocessing(
            data, seed=seed, device=ranks.device, recipe=recipe
        )
        self.mixing = Mixing(recipe, data.num_classes, seed=seed)
        self.dropouts = IndexedDropouts(model, recipe, seed=seed)
        self.statistics = RunningStatistics(model, ranks)
        self.compiler = compiler
        check_compiler(compiler, on_gpu=ranks.device.type == "cuda")
        compile_blocks(model, compiler)
        self._forward = _parallel(model, ranks)

    def train_step(self, step: int, batches: Iterator[Batch]) -> StepLosses:
        """Takes one optimizer step, on this rank's next micro-batches in `batches`."""
        if not self.model.training:
            self.model.train()
        self.schedule.set(step)
        begin_step(self.compiler)
        total = torch.zeros(1 + len(self.terms.names), device=self.ranks.device)
        accumulation_steps = self.micro_batches.accumulation_steps
        for index in range(accumulation_steps):
            with self._no_sync(index < accumulation_steps - 1):
                loss, *terms = self._losses(step, self.micro_batches.offset(index), next(batches))
                # DDP averages over the ranks, which makes the sum of the micro-batches the gradient
                # of the global batch's mean loss.
                self.scaler.scale(loss / accumulation_steps).backward()
            total += torch.stack([loss.detach(), *(term.detach() for term in terms)])
        norm = self._update()
        total /= accumulation_steps * self.ranks.world_size
        return StepLosses(total[0], norm, total[1:])

    def _losses(self, step: int, offset: int, batch: Batch) -> list[Tensor]:
        """Loss and its terms, of the micro-batch at `offset` of the step's global batch."""
        first_view = step * self.recipe.global_batch + offset
        images = self.preprocessing.training(batch.images, first_view)
        labels = batch.labels.to(self.ranks.device, non_blocking=True)
        images, targets = self.mixing(images, labels, first_view)
        with autocast(self.ranks.device, self.recipe.precision):
            teacher_logits = None if self.teacher is None else self.teacher(images)
            self.dropouts.draw(step, offset, images)
            outputs, tokens = self.terms.separate(self._forward(images))
        loss = self.criterion(outputs, targets, teacher_logits)
        if tokens is None:
            return [loss]
        return self.terms.add(loss, tokens, self._patch_targets(labels, first_view))

    def _patch_targets(self, labels: Tensor, first_view: int) -> PatchTargets | None:
        """Targets of the patches of a micro-batch, where a term asks for them."""
        if not self.terms.need_targets:
            return None
        embedding: Any = self.model.patch_embed
        side, patch = embedding.img_size[0], embedding.patch_size[0]
        return self.mixing.patch_targets(labels, first_view, side, patch)

    def _update(self) -> Tensor | None:
        norm = None
        if self.recipe.clip_grad is not None:
            self.scaler.unscale_(self.optimizer)
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.statistics.update()
        if self.ema is not None:
            self.ema.update(self.model)
        return norm

    def _no_sync(self, accumulating: bool) -> AbstractContextManager[None]:
        """DDP's `no_sync` while accumulating: only the last micro-batch exchanges gradients."""
        if accumulating and isinstance(self._forward, DistributedDataParallel):
            return self._forward.no_sync()
        return nullcontext()

    def has_finite_weights(self) -> bool:
        """Whether every parameter is a finite number; waits for the device."""
        return bool(
            torch.stack([parameter.isfinite().all() for parameter in self.model.parameters()]).all()
        )

    def state(self) -> dict[str, Any]:
        """State for a checkpoint; on the device."""
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.module.state_dict() if self.ema is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restores a saved state."""
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
        # saves one copy of the gradients
        gradient_as_bucket_view=True,
        # buffers that training changes are equal on all ranks (RunningStatistics)
        forward_sync_buffers=False,
    )
