"""Class attention: self-attention of patch tokens only, then blocks in which the class token reads.

    u = (c, X);   c' = c + W_O softmax(q k^T / sqrt(d)) v,  q of LN(u)_0, k and v of LN(u)
                  c'' = c' + MLP(LN(c'));                   X stays

With LayerScale each of the two branches is multiplied by factors, one a channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from antioversmooth.constraints import at_least, option
from antioversmooth.methods.family import Family
from antioversmooth.methods.tokens import TokenMethod, last_blocks, num_blocks


@dataclass(frozen=True)
class ClassAttention(TokenMethod):
    """Replaces the last self-attention blocks by blocks of class attention."""

    name: ClassVar[str] = "classattention"
    title: ClassVar[str] = "Class attention"
    source: ClassVar[str] = "Touvron et al., ICCV 2021, arXiv 2103.17239"

    blocks: int = option(1, at_least(1))
    """Class-attention blocks."""
    replaces: int = option(1, at_least(0))
    """Self-attention blocks, the last ones, that make room for them."""
    layer_scale: float = option(0.0, at_least(0), training_only=True)
    """Start of LayerScale's factors in the class-attention blocks; 0: no LayerScale."""

    def entrance(self, depth: int) -> int:
        """All that remain."""
        return self.num_blocks(depth)

    def num_blocks(self, depth: int) -> int:
        """Without the replaced ones."""
        return depth - self.replaces

    @property
    def num_class_blocks(self) -> int:
        """The option."""
        return self.blocks

    @property
    def class_layer_scale(self) -> float:
        """The option."""
        return self.layer_scale

    def misfits(self, depth: int, *, distilled: bool) -> Iterator[tuple[str, str]]:
        """One block at least has self-attention."""
        yield from super().misfits(depth, distilled=distilled)
        if self.replaces >= depth:
            yield "method_options.replaces", f"below the number of blocks, {depth}"

    def sentences(self, family: Family) -> Iterator[str]:
        """How many blocks there are."""
        place = (
            f"in place of {last_blocks(self.replaces)}" if self.replaces else "behind all blocks"
        )
        yield (
            f"Class attention: {num_blocks(self.blocks)} of it, {place} of self-attention,"
            f" {'with' if self.layer_scale else 'without'} LayerScale"
        )
