"""Late insertion: the class token enters behind some blocks, which see patch tokens only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from antioversmooth.constraints import option
from antioversmooth.methods.family import Family
from antioversmooth.methods.tokens import TokenMethod, last_blocks, num_blocks


@dataclass(frozen=True)
class LateInsertion(TokenMethod):
    """Keeps the class token out of the first blocks."""

    name: ClassVar[str] = "lateinsertion"
    title: ClassVar[str] = "Late insertion"
    source: ClassVar[str] = "Touvron et al., ICCV 2021, arXiv 2103.17239"

    at: int = option(-2)
    """Number of blocks that only patch tokens pass, or below 0 minus the number of the others: -2
    is 10 of 12 blocks. 0 is the plain model."""

    @property
    def is_off(self) -> bool:
        """An entrance in front of all blocks."""
        return self.at == 0

    def entrance(self, depth: int) -> int:
        """The option, from the end where it is below 0."""
        return self.at if self.at >= 0 else depth + self.at

    def canonical(self, depth: int) -> dict[str, Any]:
        """Counted from the end, but for the plain model."""
        return {"at": self.entrance(depth) and self.entrance(depth) - depth}

    def misfits(self, depth: int, *, distilled: bool) -> Iterator[tuple[str, str]]:
        """One block at least sees the class token, and one does not; 0 alone is the plain model."""
        if not -depth < self.at < depth:
            possible = f"from {1 - depth} to {depth - 1}, of {num_blocks(depth)}"
            yield "method_options.at", f"{possible}, and 0 is the plain model"

    def sentences(self, family: Family) -> Iterator[str]:
        """Where the class token enters."""
        if self.at:
            behind, before = f"behind {num_blocks(self.at)}", f"in front of {last_blocks(-self.at)}"
            yield f"Late insertion: the class token enters {behind if self.at > 0 else before}"
