"""Late insertion: the class token enters before block `at`; the blocks before see patches only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from antioversmooth.constraints import at_least, option
from antioversmooth.methods.family import Family
from antioversmooth.methods.tokens import TokenMethod


@dataclass(frozen=True)
class LateInsertion(TokenMethod):
    """Keeps the class token out of the first blocks."""

    name: ClassVar[str] = "lateinsertion"
    title: ClassVar[str] = "Late insertion"
    source: ClassVar[str] = "Touvron et al., ICCV 2021, arXiv 2103.17239"

    at: int = option(10, at_least(0))
    """Number of blocks that only patch tokens pass; 0 is the plain model."""

    def entrance(self, depth: int) -> int:
        """The option."""
        return self.at

    def misfits(self, depth: int, *, distilled: bool) -> Iterator[tuple[str, str]]:
        """One block at least sees the class token."""
        if self.at >= depth:
            yield "method_options.at", f"below the number of blocks, {depth}"

    def sentences(self, family: Family) -> Iterator[str]:
        """Where the class token enters."""
        if self.at:
            yield f"Late insertion: the class token enters behind {self.at} blocks"
