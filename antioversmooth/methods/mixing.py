"""MixingMethod: y = M v, M = BN(Theta A), heads of the attention matrix mixed and normalised."""

from __future__ import annotations

from dataclasses import dataclass

from antioversmooth.constraints import at_least, option
from antioversmooth.methods.base import Method


@dataclass(frozen=True)
class MixingMethod(Method):
    """Three parameters of a layer: Theta [H, H], gain and shift of the norm, each [H]."""

    group: int = option(32, at_least(1), training_only=True)
    """Consecutive images of a batch that share the statistics of training."""

    @property
    def inseparable(self) -> int:
        """The images of a group."""
        return self.group
