"""Laplacian heads: A_hat = I - A on a share of the heads, A on the others; nothing is trained.

With tokens as nodes and A as weights of edges, I - A is a graph's Laplacian. c0 is 1 and c1 is -1
on these heads, 0 and 1 on the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from antioversmooth.constraints import above, at_most, option
from antioversmooth.methods.base import AttentionMethod
from antioversmooth.methods.family import Family

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Laplacian(AttentionMethod):
    """Gives some heads the difference between a token's own value and what it attends to."""

    name: ClassVar[str] = "laplacian"
    title: ClassVar[str] = "Laplacian heads"
    source: ClassVar[str] = "Zhang and Papyan, arXiv 2602.09297"

    heads: float = option(0.5, above(0), at_most(1))
    """Share of the heads of each layer, rounded down, but one head at least; they come first."""

    @property
    def is_off(self) -> bool:
        """Never: each layer has one such head at least."""
        return False

    def constants(self, num_heads: int) -> list[list[float]]:
        """1 for Laplacian heads, 0 for the others."""
        chosen = self._count(num_heads)
        return [[1.0] * chosen + [0.0] * (num_heads - chosen)]

    def _count(self, num_heads: int) -> int:
        return max(1, int(self.heads * num_heads))

    def own(self, *parameters: Tensor) -> Tensor:
        """1 on Laplacian heads, 0 on the others."""
        (chosen,) = parameters
        return chosen

    def attended(self, *parameters: Tensor) -> Tensor:
        """-1 on Laplacian heads, 1 on the others."""
        (chosen,) = parameters
        return 1 - 2 * chosen

    def textbook(self, attention: Tensor, low_pass: Tensor, *parameters: Tensor) -> Tensor:
        """I - A in place of A, on the first heads."""
        identity = attention.new_ones(attention.shape[-1]).diag()
        replaced = attention.clone()
        count = self._count(attention.shape[-3])
        replaced[..., :count, :, :] = identity - attention[..., :count, :, :]
        return replaced

    def sentences(self, family: Family) -> Iterator[str]:
        """The share of heads, which the source leaves open as far as it was read."""
        yield (
            f"A share of {self.heads:g} of each layer's heads is Laplacian, a choice made here: the"
            " number in the paper's runs was not seen"
        )
