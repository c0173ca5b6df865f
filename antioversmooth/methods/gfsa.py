"""GFSA: A_hat = A + w (A + (K - 1) (A A - A)), w one scalar a head, `attn.high_order` [H].

The term behind w is A^K to first order around A. In A_hat V attention runs twice: c1 is
1 + w (2 - K), c2 is w (K - 1). Rows of A_hat sum to 1 + w.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from antioversmooth.constraints import at_least, option
from antioversmooth.methods.base import AttentionMethod, Parameter, one_plus
from antioversmooth.methods.family import Family

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class GFSA(AttentionMethod):
    """Adds a high power of attention matrices."""

    name: ClassVar[str] = "gfsa"
    title: ClassVar[str] = "GFSA"
    source: ClassVar[str] = "Choi et al., TMLR 2024, arXiv 2312.04234"
    is_exact_at_start: ClassVar[bool] = True
    parameters: ClassVar[tuple[Parameter, ...]] = (Parameter("high_order", "w", "GFSA's w"),)
    advice_on_weights: ClassVar[str] = (
        "weights of GFSA's released code have AttnScale's names: rename attn.lamb in their keys"
        " to attn.high_order"
    )

    order: int = option(4, at_least(2))
    """K; 4 in the released code of DeiT and CaiT, 3 in that of Swin."""

    def attended(self, *parameters: Tensor) -> Tensor:
        """The factor 1 + w (2 - K)."""
        (w,) = parameters
        return one_plus(w * (2 - self.order))

    def attended_twice(self, *parameters: Tensor) -> Tensor:
        """The factor w (K - 1)."""
        (w,) = parameters
        return w * (self.order - 1)

    def textbook(self, attention: Tensor, low_pass: Tensor, *parameters: Tensor) -> Tensor:
        """A + w (A + (K - 1) (A A - A)), with the product of the matrix built."""
        (w,) = parameters
        power = attention + (self.order - 1) * (attention @ attention - attention)
        return attention + w * power

    def sentences(self, family: Family) -> Iterator[str]:
        """The order, and the difference between the paper and its released code."""
        yield (
            f"GFSA has K = {self.order} and trains one coefficient a head, as released; the paper"
            " prints three"
        )
