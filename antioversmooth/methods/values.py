"""ValueMethod: y = c0 v + c1 A v + c4 v0, with the values v0 of the first layer.

The first layer itself is plain attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from antioversmooth.methods.base import AttentionMethod, Coefficient
from antioversmooth.methods.family import Family

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ValueMethod(AttentionMethod):
    """An AttentionMethod with c4 v0, from the second layer on."""

    # Swin's widths, windows and shifts change from layer to layer
    families: ClassVar[tuple[Family, ...]] = (Family.vit,)

    @property
    def needs_values(self) -> bool:
        """Always: v0 does not fold into a projection."""
        return True

    def first(self, *parameters: Tensor) -> Coefficient:
        """c4, the share of the first layer's values."""
        raise NotImplementedError
