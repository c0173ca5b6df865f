"""ValueMethod: y = c0 v + c1 A v + c4 v0, with the values v0 of the first layer.

The first layer itself is plain attention.
"""

from __future__ import annotations

from collections.abc import Iterator
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

    def misfits(self, depth: int, *, distilled: bool) -> Iterator[tuple[str, str]]:
        """The first block has no term."""
        if depth < 2:
            yield "depth", f"at least 2 with {self.title}, which leaves the first block as it is"

    @property
    def needs_values(self) -> bool:
        """Always: v0 does not fold into a projection."""
        return True

    def first(self, *parameters: Tensor) -> Coefficient:
        """c4, the share of the first layer's values."""
        raise NotImplementedError
