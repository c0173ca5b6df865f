"""LayerScale: x + g * branch(x), g one number a channel and branch, `ls1.gamma`, `ls2.gamma` [C].

The names are those of timm's `init_values`. Small starts keep the branches of deep models almost
off at first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from antioversmooth.constraints import above, option
from antioversmooth.methods.base import Parameter
from antioversmooth.methods.branches import BranchMethod


@dataclass(frozen=True)
class LayerScale(BranchMethod):
    """Scales what each branch of a block adds, channel by channel."""

    name: ClassVar[str] = "layerscale"
    title: ClassVar[str] = "LayerScale"
    source: ClassVar[str] = "Touvron et al., CaiT, ICCV 2021, arXiv 2103.17239"
    per_channel: ClassVar[bool] = True
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("gamma", "g", "LayerScale's g, of both branches"),
    )

    init: float = option(1.0e-5, above(0), training_only=True)
    """First value of g; published: 0.1 up to 18 layers, 1e-5 at 24, 1e-6 at 36. 0 is refused: timm
    reads it as no LayerScale, and ReZero starts at 0."""

    @property
    def start(self) -> float:
        """The option `init`."""
        return self.init
