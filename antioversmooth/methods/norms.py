"""NormMethod: z = x - s softmax(x_n x_n^T / tau) x in front of each layer norm over tokens.

x_n is x divided by the L2 norm of each token over its channels. Nothing is trained.
"""

from __future__ import annotations

from dataclasses import dataclass

from antioversmooth.constraints import above, at_least, option
from antioversmooth.methods.base import Method


@dataclass(frozen=True)
class NormMethod(Method):
    """Replaces `norm1` and `norm2` of each block, and the final `norm`."""

    scale: float = option(0.1, at_least(0))
    """s, the strength; 0: the layer norm alone."""
    temperature: float = option(1.0, above(0))
    """tau, which divides the cosines."""

    @property
    def is_off(self) -> bool:
        """A strength of zero."""
        return self.scale == 0

    @property
    def idle_options(self) -> tuple[str, ...]:
        """The temperature of no strength."""
        return ("temperature",) if self.is_off else ()
