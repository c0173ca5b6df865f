"""BranchMethod: x + g * branch(x), a factor on what attention and MLP add to the residual stream.

The factors lie in the places `ls1` and `ls2` of a block, behind the branch and its dropout, in
front of drop path. At g = 1 the model is the baseline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from antioversmooth.methods.base import Method
from antioversmooth.methods.family import Family


@dataclass(frozen=True)
class BranchMethod(Method):
    """One parameter g, of each of the two branches of a block."""

    per_channel: ClassVar[bool]
    """Whether g is one number a channel, [C], or one for the branch, [1]."""
    # CaiT has LayerScale
    families: ClassVar[tuple[Family, ...]] = (Family.vit, Family.swin)

    @property
    def start(self) -> float:
        """The first value of g."""
        raise NotImplementedError
