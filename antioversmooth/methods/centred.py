"""Centred self-attention: A_hat = A - c A_LP; at c = 1 rows of A_hat sum to zero.

A_LP v = m(v), so the attention matrix is not needed. With a gain on A it would be AttnScale.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from antioversmooth.constraints import between, option
from antioversmooth.methods.base import CLASS_TOKEN, Forms, MeanMethod
from antioversmooth.methods.family import Family

if TYPE_CHECKING:
    from torch import Tensor

_MASKS = {
    False: "Swin's centred attention takes its mean over masked pairs of shifted windows too",
    True: "Swin's centred attention leaves masked pairs of shifted windows out of its mean",
}


@dataclass(frozen=True)
class Centred(MeanMethod):
    """Subtracts the mean over tokens from attention outputs."""

    name: ClassVar[str] = "centred"
    title: ClassVar[str] = "Centred attention"
    source: ClassVar[str] = "Ali et al., arXiv 2306.01610"
    forms: ClassVar[Forms] = {
        Family.vit: {"class_token_in_mean": CLASS_TOKEN},
        Family.swin: {"mask_aware": _MASKS},
    }

    strength: float = option(1.0, between(0, 1))
    """c; 1 removes the mean, 0 is plain attention."""

    def mean(self, *parameters: Tensor) -> float:
        """c."""
        return self.strength

    def textbook(self, attention: Tensor, low_pass: Tensor, *parameters: Tensor) -> Tensor:
        """(A - A_LP) + (1 - c) A_LP."""
        return (attention - low_pass) + (1 - self.strength) * low_pass

    def sentences(self, family: Family) -> Iterator[str]:
        """The strength, and that there is neither released code nor a published run."""
        yield (
            f"Centred attention has strength {self.strength:g} in all layers; no code was released,"
            " and no run on ImageNet published"
        )
