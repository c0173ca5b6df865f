"""Re-attention: M = BN(Theta A), heads mixed by Theta and normalised, in place of A.

In training BN subtracts Theta A_LP, so M is centred attention with its heads mixed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from antioversmooth.methods.base import Parameter
from antioversmooth.methods.family import Family
from antioversmooth.methods.mixing import MixingMethod


@dataclass(frozen=True)
class ReAttention(MixingMethod):
    """Mixes the attention matrices of all heads."""

    name: ClassVar[str] = "reattention"
    title: ClassVar[str] = "Re-attention"
    source: ClassVar[str] = "Zhou et al., DeepViT, arXiv 2103.11886"
    families: ClassVar[tuple[Family, ...]] = (Family.vit,)
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("theta", "Theta", "Theta, which mixes heads, one row each"),
        Parameter("gain", "gain", "gain of the norm behind the mixing"),
        Parameter("shift", "shift", "shift of the norm behind the mixing"),
    )

    def sentences(self, family: Family) -> Iterator[str]:
        """The difference from the released layer that depends on the hardware there."""
        yield (
            f"Re-attention normalises over groups of {self.group} images, whatever the number of"
            " devices; the released code over the images of a device"
        )
