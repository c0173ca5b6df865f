"""NeuTRENO: y = A v + lam (v0 - v) in every layer but the first, whose values are v0.

The term holds the tokens to those that the first layer saw: c0 is -lam, c4 is lam.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from antioversmooth.constraints import at_least, option
from antioversmooth.methods.family import Family
from antioversmooth.methods.values import ValueMethod

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class NeuTRENO(ValueMethod):
    """Adds the difference to the values of the first layer."""

    name: ClassVar[str] = "neutreno"
    title: ClassVar[str] = "NeuTRENO"
    source: ClassVar[str] = "Nguyen et al., NeurIPS 2023, arXiv 2312.00751"

    strength: float = option(0.6, at_least(0))
    """lam, a constant; 0.6 in the released code of DeiT, 0 is plain attention."""

    def own(self, *parameters: Tensor) -> float:
        """The factor -lam."""
        return -self.strength

    def first(self, *parameters: Tensor) -> float:
        """The factor lam."""
        return self.strength

    def sentences(self, family: Family) -> Iterator[str]:
        """The strength, whose released value is of another size of model."""
        yield f"NeuTRENO has strength {self.strength:g}; released code has DeiT-Ti with 0.6"
