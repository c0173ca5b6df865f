"""Running statistics of layers that normalise over images: those of re-attention."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn

from antioversmooth.models.reattention import HeadMixing
from antioversmooth.training.run.distributed import Ranks


class RunningStatistics:
    """The running statistics of a model, moved once a step, over the whole global batch.

    So they do not depend on the number of ranks and micro-batches, and are equal on all ranks.
    """

    def __init__(self, model: nn.Module, ranks: Ranks) -> None:
        self.ranks = ranks
        self.mixings = [module for module in model.modules() if isinstance(module, HeadMixing)]
        for mixing in self.mixings:
            mixing.updates = False

    def update(self) -> None:
        """Moves them after the forward passes of a step; all ranks call this together."""
        if self.ranks.world_size > 1 and self.mixings:
            pending = torch.stack([mixing.pending for mixing in self.mixings])
            dist.all_reduce(pending)
            for mixing, total in zip(self.mixings, pending, strict=True):
                mixing.pending.copy_(total)
        for mixing in self.mixings:
            mixing.update()
