"""Shaped attention: y = alpha v + beta A v - gamma m(v), each one scalar a head.

At zero logits A v is m(v), so that at alpha = beta = gamma = 1 attention returns its values.
Trained are the differences to 1: `attn.own_offset`, `attn.attended_offset` and `attn.mean_offset`,
each [H].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from antioversmooth.methods.base import CLASS_TOKEN, Forms, MeanMethod, Parameter, one_plus
from antioversmooth.methods.family import Family

if TYPE_CHECKING:
    from torch import Tensor

_MASKS = {
    False: "Swin's shaped attention takes its mean over masked pairs of shifted windows too",
    True: "Swin's shaped attention leaves masked pairs of shifted windows out of its mean",
}


@dataclass(frozen=True)
class Shaped(MeanMethod):
    """Adds each token's own value to attention, and subtracts the mean over tokens."""

    name: ClassVar[str] = "shaped"
    title: ClassVar[str] = "Shaped attention"
    source: ClassVar[str] = "Noci et al., arXiv 2306.17759; He and Hofmann, arXiv 2311.01906"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("own_offset", "alpha", "alpha - 1, of each token's own value"),
        Parameter("attended_offset", "beta", "beta - 1, of attention"),
        Parameter("mean_offset", "gamma", "gamma - 1, of the mean over tokens"),
    )
    forms: ClassVar[Forms] = {
        Family.vit: {"class_token_in_mean": CLASS_TOKEN},
        Family.swin: {"mask_aware": _MASKS},
    }

    def own(self, *parameters: Tensor) -> Tensor:
        """The factor alpha."""
        return one_plus(parameters[0])

    def attended(self, *parameters: Tensor) -> Tensor:
        """The factor beta."""
        return one_plus(parameters[1])

    def mean(self, *parameters: Tensor) -> Tensor:
        """The factor gamma."""
        return one_plus(parameters[2])

    def textbook(self, attention: Tensor, low_pass: Tensor, *parameters: Tensor) -> Tensor:
        """alpha I + beta A - gamma A_LP."""
        alpha, beta, gamma = (1 + parameter for parameter in parameters)
        identity = attention.new_ones(attention.shape[-1]).diag()
        return alpha * identity + beta * attention - gamma * low_pass

    def sentences(self, family: Family) -> Iterator[str]:
        """Differences to the source: the start of queries, and the residual connections."""
        yield (
            "Shaped attention starts at alpha = beta = gamma = 1 beside timm's start of queries and"
            " a residual connection around attention; its source starts queries at zero, without"
            " that connection"
        )
