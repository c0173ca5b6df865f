"""Sums over the steps since the last journal record, on the device: no step waits for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from antioversmooth.training.run.distributed import Ranks

_NEVER = 2**62
"""Number of a step that no run reaches."""


@dataclass(frozen=True)
class MeterReading:
    """The meter, read over all ranks."""

    steps: int
    loss: float
    """Mean over the steps; of the global batch, with smoothing and mixing."""
    grad_norm: float
    """Mean over the steps, before clipping."""
    terms: dict[str, float]
    """Mean over the steps of each term of the loss, without its weight, by name."""
    diverged_at: int | None
    """First step whose loss was not a finite number."""


class Meter:
    """Sums of losses and gradient norms; each rank adds its part.

    Args:
        terms: Names of the terms of the loss.
    """

    def __init__(self, ranks: Ranks, terms: Sequence[str] = ()) -> None:
        self.ranks, self.terms = ranks, terms
        self.steps = 0
        # loss, gradient norm, terms
        self._sums = torch.zeros(2 + len(terms), dtype=torch.float64, device=ranks.device)
        self._diverged_at = torch.full((), _NEVER, dtype=torch.int64, device=ranks.device)

    def add(
        self, step: int, loss: Tensor, grad_norm: Tensor | None, terms: Tensor | None = None
    ) -> None:
        """Adds a step.

        Args:
            loss: This rank's part of the mean loss over the global batch.
            grad_norm: Norm of the whole gradient, equal on all ranks; None if it is not measured.
            terms: This rank's part of each term of the loss.
        """
        self.steps += 1
        self._sums[0] += loss
        if grad_norm is not None:
            self._sums[1] += grad_norm / self.ranks.world_size
        if terms is not None:
            self._sums[2:] += terms
        this_step = torch.where(torch.isfinite(loss), _NEVER, step)
        self._diverged_at = torch.minimum(self._diverged_at, this_step)

    def read(self) -> MeterReading:
        """The means so far over all ranks, which call this together; does not reset them."""
        loss, grad_norm, *terms = self.ranks.sum(self._sums).tolist()
        # A sum cannot tell the smallest step, so each rank's step has an element of its own.
        steps = torch.zeros(self.ranks.world_size, dtype=torch.int64)
        steps[self.ranks.rank] = self._diverged_at.cpu()
        first = int(self.ranks.sum(steps).min())
        count = max(self.steps, 1)
        return MeterReading(
            self.steps,
            loss / count,
            grad_norm / count,
            {name: term / count for name, term in zip(self.terms, terms, strict=True)},
            None if first == _NEVER else first,
        )

    def reset(self) -> None:
        self.steps = 0
        self._sums.zero_()

    def state(self) -> dict[str, object]:
        """The sums over all ranks, which call this together."""
        return {"steps": self.steps, "sums": self.ranks.sum(self._sums)}

    def load_state(self, state: dict[str, object]) -> None:
        """Restores a saved state; rank 0 takes the sums of all ranks."""
        steps, sums = state["steps"], state["sums"]
        assert isinstance(steps, int)
        assert isinstance(sums, Tensor)
        self.steps = steps
        if self.ranks.is_main:
            self._sums.copy_(sums)
