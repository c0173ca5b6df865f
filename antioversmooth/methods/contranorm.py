"""ContraNorm: z = x - s softmax(x_n x_n^T / tau) x in front of each layer norm.

At tau = 1 the softmax is close to 11^T / N, so z is close to HC[x] + (1 - s) DC[x].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from antioversmooth.methods.family import Family
from antioversmooth.methods.norms import NormMethod


@dataclass(frozen=True)
class ContraNorm(NormMethod):
    """Subtracts from each token a mean of the tokens that are like it."""

    name: ClassVar[str] = "contranorm"
    title: ClassVar[str] = "ContraNorm"
    source: ClassVar[str] = "Guo et al., ICLR 2023, arXiv 2303.06562"
    families: ClassVar[tuple[Family, ...]] = (Family.vit,)

    def sentences(self, family: Family) -> Iterator[str]:
        """The strength, which no published run states."""
        yield f"ContraNorm's strength is {self.scale:g}; that of its published runs is not known"
