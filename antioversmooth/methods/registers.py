"""Register tokens: learned tokens that pass all blocks with the others and are dropped at the end.

They have no position. Not made against oversmoothing, but against patch tokens that the network
uses as memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from antioversmooth.constraints import at_least, option
from antioversmooth.methods.family import Family
from antioversmooth.methods.tokens import TokenMethod


@dataclass(frozen=True)
class RegisterTokens(TokenMethod):
    """Adds register tokens to those of a vision transformer."""

    name: ClassVar[str] = "registers"
    title: ClassVar[str] = "Register tokens"
    source: ClassVar[str] = "Darcet et al., ICLR 2024, arXiv 2309.16588"

    count: int = option(4, at_least(0))
    """Register tokens; 0 is the plain model."""

    @property
    def is_off(self) -> bool:
        """Without a token."""
        return self.count == 0

    @property
    def num_registers(self) -> int:
        """The option."""
        return self.count

    def sentences(self, family: Family) -> Iterator[str]:
        """Measures over tokens that include registers."""
        are = "token is" if self.count == 1 else "tokens are"
        yield (
            f"{self.count} register {are} in the similarity of all tokens and in DC and HC"
            " energy, and not in the similarity of patch tokens"
        )
